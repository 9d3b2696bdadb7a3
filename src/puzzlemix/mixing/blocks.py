"""Grids of cells over images: pooling to cells, enlarging to pixels, and moving cells.

A grid of n cells along a side of L pixels cuts it at floor(i L / n), i = 0..n. The cells are equal if n divides L;
otherwise their sizes differ by one pixel.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from numbers import Integral

import torch
from torch import Tensor

from puzzlemix.runtime.errors import require

Grid = tuple[int, int]  # cells (down, across)


def as_grid(blocks: int | Sequence[int]) -> Grid:
    """Blocks per side, or a pair, as a pair (down, across)."""
    pair = (blocks, blocks) if isinstance(blocks, Integral) else blocks
    fits = isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(n, Integral) and n >= 1 for n in pair)
    require(fits, f"blocks must be a number per side, such as 4, or a pair (down, across), at least 1, not {blocks}")
    return int(pair[0]), int(pair[1])


def as_grids(blocks: int | Iterable[int | Grid]) -> tuple[Grid, ...]:
    """Grids to draw from, each as a pair. A single number of blocks per side gives one grid."""
    blocks = (blocks,) if isinstance(blocks, Integral) else blocks
    several = isinstance(blocks, Iterable) and not isinstance(blocks, str | Tensor)
    grids = tuple(as_grid(b) for b in blocks) if several else ()
    require(len(grids) > 0, f"blocks must be a number, or grids to draw from such as (2, 4, (8, 16)), not {blocks}")
    return grids


def cell_edges(length: int, cells: int) -> list[int]:
    """The cells + 1 pixel positions, from 0 to `length`, at which a side is cut."""
    return [i * length // cells for i in range(cells + 1)]


def pool_to_grid(pixels: Tensor, grid: Grid) -> Tensor:
    """Mean over the pixels of each cell: (..., H, W) -> (..., n_h, n_w)."""
    return _cell_means(_cell_means(pixels, grid[0], -2), grid[1], -1)


def _cell_means(values: Tensor, cells: int, dim: int) -> Tensor:
    """Means over the cells along one dimension, which then has length `cells`."""
    length = values.shape[dim]
    if length % cells == 0:
        return values.unflatten(dim, (cells, length // cells)).mean(dim)
    inner_edges = cell_edges(length, cells)[1:-1]
    return torch.stack([cell.mean(dim) for cell in values.tensor_split(inner_edges, dim)], dim)


@lru_cache(maxsize=64)
def cell_of_pixel(length: int, cells: int, device: torch.device) -> Tensor:
    """The cell in which each of `length` pixels along a side lies: (length,) int64. Cached: do not change it."""
    return (torch.arange(1, length + 1, device=device) * cells - 1) // length


def enlarge(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Repeat each cell's value over its pixels: (..., n_h, n_w) -> (..., H, W). `pool_to_grid` is the inverse."""
    rows = cell_of_pixel(size[0], values.shape[-2], values.device)  # (H,)
    columns = cell_of_pixel(size[1], values.shape[-1], values.device)  # (W,)
    return values[..., rows[:, None], columns]


def resample_grid(values: Tensor, grid: Grid) -> Tensor:
    """Values at the nearest cell centres of another grid: (..., n_h, n_w) -> (..., *grid)."""
    if values.shape[-2:] == grid:
        return values
    rows, columns = (
        (torch.arange(to, device=values.device) * 2 + 1) * source // (2 * to)
        for source, to in zip(values.shape[-2:], grid, strict=True)
    )
    return values[..., rows[:, None], columns]


def move_cells(images: Tensor, source: Tensor) -> Tensor:
    """Fill each cell of the grid with the cell that `source` names; returns a new tensor (B, C, H, W).

    If sizes of cells differ by a pixel, a smaller source repeats its last row or column, and a larger one loses it.

    Args:
        images: (B, C, H, W).
        source: (B, n_h, n_w) int64, for each target cell the index of its source cell, counted row by row.
    """
    (height, width), (n_h, n_w) = images.shape[-2:], source.shape[-2:]
    is_even = height % n_h == 0 and width % n_w == 0
    if not is_even:
        (rows, back_down), (columns, back_across) = (
            _as_equal_cells(length, n, images.device) for length, n in ((height, n_h), (width, n_w))
        )
        images = images[..., rows[:, None], columns]
    cells = images.unflatten(-1, (n_w, -1)).unflatten(-3, (n_h, -1))  # (B, C, n_h, k_h, n_w, k_w)
    own = torch.arange(len(images), device=images.device)[:, None, None]
    moved = cells[own, :, source // n_w, :, source % n_w]  # (B, n_h, n_w, C, k_h, k_w)
    moved = moved.permute(0, 3, 1, 4, 2, 5).reshape(images.shape)
    return moved if is_even else moved[..., back_down[:, None], back_across]


def _as_equal_cells(length: int, cells: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices that make all cells along a side k pixels long, and indices that undo it.

    A shorter cell repeats its last pixel. Returns the pixel at each of the cells' k places, (cells k,), and the place
    of each pixel, (length,).
    """
    longest = -(-length // cells)
    edges = torch.arange(cells + 1, device=device) * length // cells  # as `cell_edges`
    pixels = torch.minimum(edges[:-1, None] + torch.arange(longest, device=device), edges[1:, None] - 1)
    cell = cell_of_pixel(length, cells, device)
    return pixels.flatten(), cell * longest + torch.arange(length, device=device) - edges[cell]
