"""What Puzzle Mix cannot mix: one line that names the argument, its value, and what was expected."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

from puzzlemix.errors import require, require_choice
from puzzlemix.mixing.base import require_partners
from puzzlemix.mixing.blocks import Grid
from puzzlemix.mixing.graphcut import SOLVERS


def check_puzzle_parameters(
    beta: float,
    gamma: float,
    eta: float,
    neigh_size: int,
    n_labels: int,
    t_eps: float,
    t_size: int | None,
    solver: str,
) -> None:
    """Raise `InputError`, naming the parameter and its range, on a value that Puzzle Mix cannot use."""
    require(beta >= 0, f"beta must be 0 or more, not {beta}")
    require(0 <= gamma <= 1, f"gamma must lie in [0, 1], not {gamma}: above 1 a border weight could be negative")
    require(eta >= 0, f"eta must be 0 or more, not {eta}")
    require(neigh_size >= 1, f"neigh_size must be at least 1 pixel, not {neigh_size}")
    require(n_labels >= 2, f"n_labels must be at least 2, not {n_labels}")
    require(t_eps >= 0, f"t_eps must be 0 or more, not {t_eps}")
    require(t_size is None or t_size >= 1, f"t_size must be at least 1 pixel, or None, not {t_size}")
    require_choice("solver", solver, SOLVERS)


def check_batch(images: Tensor, saliency: Tensor, partner: Tensor, lam: float, grid: Grid) -> None:
    """Raise `InputError` on tensors that do not fit together, or to the grid."""
    require(images.ndim == 4, f"images must have shape (B, C, H, W), not {tuple(images.shape)}")
    batch, _, height, width = images.shape
    require_partners(images)
    for name, given, shape in (("saliency", saliency, (batch, height, width)), ("partner", partner, (batch,))):
        require(given.shape == shape, f"{name} must have shape {shape}, not {tuple(given.shape)}")
        same = given.device == images.device
        require(same, f"{name} must be on the images' device, {images.device}, not {given.device}")
    for name, given in (("images", images), ("saliency", saliency)):
        require(given.is_floating_point(), f"{name} must be floating point, not {given.dtype}: pixels are in [0, 1]")
    require(partner.dtype == torch.int64, f"partner must be torch.int64, not {partner.dtype}")
    require(0 <= lam <= 1, f"lam must lie in [0, 1], not {lam}")
    check_grid(grid, height, width)
    if images.device.type == "cpu" or os.environ.get("PUZZLEMIX_DEBUG") == "1":
        low, high = int(partner.min()), int(partner.max())
        require(0 <= low <= high < batch, f"partner must lie in [0, {batch - 1}], not from {low} to {high}")
        require(not (saliency < 0).any(), f"saliency must not be negative, not {float(saliency.min())}")


def check_grid(grid: Grid, height: int, width: int) -> None:
    """Raise `InputError` on more blocks than pixels."""
    fits = 1 <= grid[0] <= height and 1 <= grid[1] <= width
    require(fits, f"images of {height} x {width} pixels are smaller than a grid of {grid[0]} x {grid[1]} blocks")


def as_grid(blocks: int | Sequence[int]) -> Grid:
    """Blocks a side, or a pair, as a pair (down, across)."""
    pair = (blocks, blocks) if isinstance(blocks, Integral) else blocks
    fits = isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(n, Integral) for n in pair)
    require(fits, f"a grid is blocks a side, such as 4, or a pair (down, across), not {blocks}")
    return int(pair[0]), int(pair[1])
