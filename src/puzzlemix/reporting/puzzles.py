"""A picture of real puzzles: two images, their saliency, the mask, what moves, the result. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from puzzlemix.mixing import Puzzle
from puzzlemix.mixing.blocks import enlarge, move_cells, resample_grid

COLUMNS = ("image", "partner", "its saliency", "partner's", "mask", "image moves", "partner moves", "Puzzle Mix")


def draw_puzzles(
    path: Path,
    images: Tensor,
    saliency: Tensor,
    partner: Tensor,
    puzzle: Puzzle,
    labels: Sequence[str],
    pairs: Sequence[int],
) -> None:
    """Write a PNG with a row a pair; an arrow shows where a visible cell came from, what the mask hides is dimmed.

    Args:
        path: of the PNG.
        images: (B, C, H, W) in [0, 1].
        saliency: (B, H, W).
        partner: (B,).
        puzzle: what `puzzle_mix` made of them.
        labels: B class names.
        pairs: which of the B to draw.
    """
    figure = Figure(figsize=(1.3 * len(COLUMNS), 1.5 * len(pairs)), layout="constrained")
    all_axes = figure.subplots(len(pairs), len(COLUMNS), squeeze=False)
    for title, ax in zip(COLUMNS, all_axes[0], strict=True):
        ax.set_title(title, fontsize=9)
    for row, axes in zip(pairs, all_axes, strict=True):
        other, share, mask = int(partner[row]), float(puzzle.share[row]), puzzle.mask[row].cpu()
        _show_image(axes[0], images[row], labels[row])
        _show_image(axes[1], images[other], labels[other])
        axes[2].imshow(saliency[row].cpu().numpy(), cmap="magma")
        axes[3].imshow(saliency[other].cpu().numpy(), cmap="magma")
        axes[4].imshow(mask.numpy(), cmap="gray", vmin=0, vmax=1)
        axes[4].set_xlabel(f"keeps {share:.2f}", fontsize=7)
        sources = (None, None) if puzzle.sources is None else puzzle.sources[:, row]
        _show_moves(axes[5], images[row], sources[0], mask > 0)
        _show_moves(axes[6], images[other], sources[1], mask < 1)
        _show_image(axes[7], puzzle.images[row], f"{share:.2f} {labels[row]} + {1 - share:.2f} {labels[other]}")
        for ax in axes:
            ax.set_xticks([])
            ax.set_yticks([])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _show_image(ax: Axes, image: Tensor, caption: str) -> None:
    """An image (C, H, W) with a line below; other than 3 channels show their mean."""
    image = image.permute(1, 2, 0) if image.shape[0] == 3 else image.mean(0)
    ax.imshow(image.cpu().numpy(), cmap="gray", vmin=0, vmax=1)
    ax.set_xlabel(caption, fontsize=7)


def _show_moves(ax: Axes, image: Tensor, source: Tensor | None, visible: Tensor) -> None:
    """A moved image (C, H, W), dimmed but for `visible` (n_h, n_w), with an arrow from source to target cell a move."""
    size = image.shape[-2:]
    moved = image if source is None else move_cells(image[None], source[None])[0]
    _show_image(ax, moved.cpu() * torch.where(enlarge(visible, size), 1.0, 0.25), "")
    if source is None:
        return
    moves = visible_moves(source.cpu(), visible)  # (N_h, N_w)
    n_h, n_w = source.shape
    for target in moves.flatten().nonzero()[:, 0].tolist():
        (y0, x0), (y1, x1) = (
            ((cell // n_w + 0.5) * size[0] / n_h - 0.5, (cell % n_w + 0.5) * size[1] / n_w - 0.5)
            for cell in (int(source.flatten()[target]), target)
        )
        ax.annotate("", (x1, y1), (x0, y0), arrowprops={"arrowstyle": "->", "color": "tab:orange", "lw": 0.8})
    ax.set_xlabel(f"moved cells: {int(moves.sum())}", fontsize=7)


def visible_moves(source: Tensor, visible: Tensor) -> Tensor:
    """Which cells show what came from elsewhere: source (..., N_h, N_w), visible (..., n_h, n_w) -> (..., N_h, N_w)."""
    own = torch.arange(source.shape[-2] * source.shape[-1], device=source.device)
    return resample_grid(visible, source.shape[-2:]) & (source != own.view(source.shape[-2:]))
