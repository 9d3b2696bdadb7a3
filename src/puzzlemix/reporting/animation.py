"""A film of one pair's puzzle while lambda goes from 0 to 1. Needs matplotlib and Pillow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from torch import Tensor

from puzzlemix.mixing import puzzle_mix
from puzzlemix.reporting.batch import Batch
from puzzlemix.reporting.pictures import grid_of_images, show_image
from puzzlemix.runtime.files import whole_file

FORMATS = {".gif": "GIF", ".webp": "WEBP"}
COLUMNS = ("image", "partner", "mask", "Puzzle Mix")
FRAMES = 41  # lambda in steps of 1/40
FRAME_MS, LAST_FRAME_MS = 100, 1000


def draw_animation(path: Path, batch: Batch, saliency: Tensor, first: int, parameters: Mapping[str, Any]) -> None:
    """Write a GIF or WebP of a pair: its mask and its mixture for each lambda.

    Args:
        path: of the film, ending in .gif or .webp.
        batch: of which the pair is one.
        saliency: (B, H, W).
        first: the pair's image; the other is its partner.
        parameters: of `puzzle_mix`, all but lambda.

    Raises:
        RunError: it cannot be written.
    """
    second = int(batch.partner[first])
    frames = np.linspace(0, 1, FRAMES).tolist()
    which = torch.tensor([first] * FRAMES + [second] * FRAMES, device=saliency.device)  # once for each lambda
    partner = torch.arange(2 * FRAMES, device=saliency.device).roll(FRAMES)
    lam = saliency.new_tensor(frames * 2)  # (2 F,)
    puzzle = puzzle_mix(batch.images[which], saliency[which], partner, lam=lam, **parameters)

    pictures = []
    for i, wanted in enumerate(frames):
        figure, (axes,) = grid_of_images(COLUMNS, 1)
        show_image(axes[0], batch.images[first], batch.names[first])
        show_image(axes[1], batch.images[second], batch.names[second])
        axes[2].imshow(puzzle.mask[i].cpu().numpy(), cmap="gray", vmin=0, vmax=1)
        axes[2].set_xlabel(f"lambda {wanted:.2f}", fontsize=7)
        show_image(axes[3], puzzle.images[i], f"keeps {float(puzzle.share[i]):.2f} of {batch.names[first]}")
        figure.set_dpi(130)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    durations = [FRAME_MS] * (FRAMES - 1) + [LAST_FRAME_MS]
    film = {"save_all": True, "append_images": pictures[1:], "duration": durations, "loop": 0}
    with whole_file(path) as file:
        pictures[0].save(file, FORMATS[path.suffix.lower()], **film)
