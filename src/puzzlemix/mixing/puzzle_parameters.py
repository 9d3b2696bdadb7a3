"""The parameters of Puzzle Mix, and what it cannot mix: a line that names argument, value, and what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

from puzzlemix.errors import require, require_choice, values_are_looked_at
from puzzlemix.mixing.base import require_partners
from puzzlemix.mixing.blocks import Grid
from puzzlemix.mixing.graphcut import SOLVERS, check_solver
from puzzlemix.mixing.transport import PLANS


@dataclass(frozen=True)
class PuzzleParameters:
    """How images are mixed, whatever the images; for their meaning see `puzzle_mix`.

    Raises:
        InputError: one is out of range.
    """

    beta: float = 1.2
    gamma: float = 0.5
    eta: float = 0.2
    neigh_size: int = 4
    n_labels: int = 3
    transport: bool | str = True
    t_eps: float = 0.8
    t_size: int | None = None
    solver: str = "exact"

    def __post_init__(self) -> None:
        require(self.beta >= 0, f"beta must be 0 or more, not {self.beta}")
        require(0 <= self.gamma <= 1, f"gamma must lie in [0, 1], not {self.gamma}: above 1 a weight could be negative")
        require(self.eta >= 0, f"eta must be 0 or more, not {self.eta}")
        require(self.neigh_size >= 1, f"neigh_size must be at least 1 pixel, not {self.neigh_size}")
        require(self.n_labels >= 2, f"n_labels must be at least 2, not {self.n_labels}")
        known = isinstance(self.transport, bool) or str(self.transport) in PLANS
        require(known, f"transport must be true, false, or one of {', '.join(PLANS)}, not {self.transport}")
        require(self.t_eps >= 0, f"t_eps must be 0 or more, not {self.t_eps}")
        require(self.t_size is None or self.t_size >= 1, f"t_size must be at least 1 pixel, or None, not {self.t_size}")
        require_choice("solver", self.solver, SOLVERS)

    def check_grid(self, grid: Grid, height: int, width: int) -> None:
        """Raise `InputError` where masks of this grid cannot be made for images of this size, in pixels."""
        fits = 1 <= grid[0] <= height and 1 <= grid[1] <= width
        require(fits, f"images of {height} x {width} pixels are smaller than a grid of {grid[0]} x {grid[1]} blocks")
        check_solver(self.solver, self.beta, grid)


def check_batch(images: Tensor, saliency: Tensor, partner: Tensor, lam: float | Tensor) -> None:
    """Raise `InputError` on tensors that do not fit together."""
    for name, given in (("images", images), ("saliency", saliency), ("partner", partner)):
        require(isinstance(given, Tensor), f"{name} must be a tensor, not {type(given).__name__}")
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
    if isinstance(lam, Tensor):
        require(lam.shape == (batch,), f"lam must be a number or have shape ({batch},), not {tuple(lam.shape)}")
    else:
        require(0 <= lam <= 1, f"lam must lie in [0, 1], not {lam}")
    if values_are_looked_at(images.device.type):
        dark, bright = (float(value) for value in images.detach().aminmax())
        pixels = dark >= -1e-3 and bright <= 1 + 1e-3  # bicubic resizing may overshoot by rounding
        remedy = "divide by 255, or give PuzzleMix the mean and std of normalised ones"
        require(pixels, f"images must be pixels in [0, 1], not from {dark:.3g} to {bright:.3g}: {remedy}")
        low, high = int(partner.min()), int(partner.max())
        require(0 <= low <= high < batch, f"partner must lie in [0, {batch - 1}], not from {low} to {high}")
        require(not (saliency < 0).any(), f"saliency must not be negative, not {float(saliency.min())}")


def as_grid(blocks: int | Sequence[int]) -> Grid:
    """Blocks a side, or a pair, as a pair (down, across)."""
    pair = (blocks, blocks) if isinstance(blocks, Integral) else blocks
    fits = isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(n, Integral) for n in pair)
    require(fits, f"a grid is blocks a side, such as 4, or a pair (down, across), not {blocks}")
    return int(pair[0]), int(pair[1])


def by_grid(blocks: Tensor) -> list[tuple[Grid, Tensor]]:
    """Each grid that occurs in `blocks`, (B,) a side or (B, 2) down and across, and which images it is for, (B',)."""
    fits = blocks.dtype == torch.int64 and (blocks.ndim == 1 or (blocks.ndim == 2 and blocks.shape[1] == 2))
    require(fits, f"blocks must be (B,) or (B, 2) torch.int64, not {tuple(blocks.shape)} {blocks.dtype}")
    pairs = blocks if blocks.ndim == 2 else torch.stack([blocks, blocks], dim=1)  # (B, 2)
    grids, which = pairs.unique(dim=0, return_inverse=True)
    return [(tuple(grid), (which == i).nonzero()[:, 0]) for i, grid in enumerate(grids.tolist())]
