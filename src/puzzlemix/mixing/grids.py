"""Grids of blocks as they are asked for: a number a side, a pair, several to draw from, one for each image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral

import torch
from torch import Tensor

from puzzlemix.mixing.blocks import Grid
from puzzlemix.runtime.errors import require


def as_grid(blocks: int | Sequence[int]) -> Grid:
    """Blocks a side, or a pair, as a pair (down, across)."""
    pair = (blocks, blocks) if isinstance(blocks, Integral) else blocks
    fits = isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(n, Integral) and n >= 1 for n in pair)
    require(fits, f"blocks must be a number a side, such as 4, or a pair (down, across), at least 1, not {blocks}")
    return int(pair[0]), int(pair[1])


def as_grids(blocks: int | Iterable[int | Grid]) -> tuple[Grid, ...]:
    """Grids to draw from, each blocks a side or a pair; a single number of blocks a side as the only one."""
    blocks = (blocks,) if isinstance(blocks, Integral) else blocks
    several = isinstance(blocks, Iterable) and not isinstance(blocks, str | Tensor)
    grids = tuple(as_grid(b) for b in blocks) if several else ()
    require(len(grids) > 0, f"blocks must be a number, or grids to draw from such as (2, 4, (8, 16)), not {blocks}")
    return grids


def by_grid(blocks: Tensor) -> list[tuple[Grid, Tensor]]:
    """Each grid that occurs in `blocks`, (B,) a side or (B, 2) down and across, and which images it is for, (B',)."""
    fits = blocks.dtype == torch.int64 and (blocks.ndim == 1 or (blocks.ndim == 2 and blocks.shape[1] == 2))
    require(fits, f"blocks must be (B,) or (B, 2) torch.int64, not {tuple(blocks.shape)} {blocks.dtype}")
    pairs = blocks if blocks.ndim == 2 else torch.stack([blocks, blocks], dim=1)  # (B, 2)
    grids, which = pairs.unique(dim=0, return_inverse=True)
    least = int(grids.min()) if len(grids) else 1
    require(least >= 1, f"blocks must be at least 1 a side, not {least}")
    return [(tuple(grid), (which == i).nonzero()[:, 0]) for i, grid in enumerate(grids.tolist())]
