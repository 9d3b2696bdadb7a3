"""A picture of real puzzles: two images, their saliency, the mask, what moves, the result. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from torch import Tensor

from puzzlemix.mixing import Puzzle
from puzzlemix.mixing.blocks import enlarge, move_cells, resample_grid
from puzzlemix.reporting.batch import Batch
from puzzlemix.reporting.pictures import grid_of_images, save_picture, show_image

COLUMNS = ("image", "partner", "its saliency", "partner's", "mask", "image moves", "partner moves", "Puzzle Mix")


def draw_puzzles(path: Path, batch: Batch, saliency: Tensor, rows: Sequence[tuple[Puzzle, int]]) -> None:
    """Write a PNG of puzzles; an arrow shows where a visible cell came from, what the mask hides is dimmed.

    Args:
        path: of the PNG.
        batch: B images with their partners.
        saliency: (B, H, W).
        rows: what `puzzle_mix` made of them, and which of the B to draw of that.

    Raises:
        RunError: it cannot be written.
    """
    figure, all_axes = grid_of_images(COLUMNS, len(rows))
    for (puzzle, pair), axes in zip(rows, all_axes, strict=True):
        other, share, mask = int(batch.partner[pair]), float(puzzle.share[pair]), puzzle.mask[pair].cpu()
        first, second = batch.names[pair], batch.names[other]
        show_image(axes[0], batch.images[pair], first)
        show_image(axes[1], batch.images[other], second)
        axes[2].imshow(saliency[pair].cpu().numpy(), cmap="magma")
        axes[3].imshow(saliency[other].cpu().numpy(), cmap="magma")
        axes[4].imshow(mask.numpy(), cmap="gray", vmin=0, vmax=1)
        axes[4].set_xlabel(f"keeps {share:.2f}", fontsize=7)
        sources = (None, None) if puzzle.sources is None else puzzle.sources[:, pair]
        _show_moves(axes[5], batch.images[pair], sources[0], mask > 0)
        _show_moves(axes[6], batch.images[other], sources[1], mask < 1)
        show_image(axes[7], puzzle.images[pair], f"{share:.2f} {first}\n+ {1 - share:.2f} {second}")
    save_picture(figure, path)


def _show_moves(ax: Axes, image: Tensor, source: Tensor | None, visible: Tensor) -> None:
    """A moved image (C, H, W), dimmed but for `visible` (n_h, n_w), with an arrow from source to target cell a move."""
    size = image.shape[-2:]
    moved = image if source is None else move_cells(image[None], source[None])[0]
    show_image(ax, moved.cpu() * torch.where(enlarge(visible, size), 1.0, 0.25), "")
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


def most_moved(puzzle: Puzzle) -> list[int]:
    """The pairs of a batch, those in which most cells visibly move first: in most, transport moves none."""
    moves = torch.zeros(len(puzzle.share), dtype=torch.int64, device=puzzle.share.device)  # (B,)
    if puzzle.sources is not None:
        for source, visible in zip(puzzle.sources, (puzzle.mask > 0, puzzle.mask < 1), strict=True):
            moves += visible_moves(source, visible).sum((1, 2))
    return moves.argsort(descending=True, stable=True).tolist()
