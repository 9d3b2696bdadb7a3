"""Pictures as files: a grid of images, and a PNG that is written whole. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from puzzlemix.runtime.files import whole_file


def grid_of_images(titles: Sequence[str], rows: int) -> tuple[Figure, np.ndarray]:
    """A figure with a column a title and axes without ticks, (rows, columns)."""
    height_in = 1.6 * rows + 0.3
    figure = Figure(figsize=(1.3 * len(titles), height_in))
    figure.subplots_adjust(0.005, 0.35 / height_in, 0.995, 1 - 0.25 / height_in, wspace=0.06, hspace=0.3)
    all_axes = figure.subplots(rows, len(titles), squeeze=False)
    for title, ax in zip(titles, all_axes[0], strict=True):
        ax.set_title(title, fontsize=9)
    for ax in all_axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    return figure, all_axes


def show_image(ax: Axes, image: Tensor, caption: str) -> None:
    """An image (C, H, W) with a line below; other than 3 channels show their mean."""
    image = image.permute(1, 2, 0) if image.shape[0] == 3 else image.mean(0)
    ax.imshow(image.cpu().numpy(), cmap="gray", vmin=0, vmax=1)
    ax.set_xlabel(caption, fontsize=7)


def save_picture(figure: Figure, path: Path) -> None:
    """Write a PNG, whole.

    Raises:
        RunError: it cannot be written.
    """
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=130)
