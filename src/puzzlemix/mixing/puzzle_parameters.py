"""The parameters of Puzzle Mix, and what it cannot mix: a line that names argument, value, and what was expected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

from puzzlemix.errors import require, require_choice, require_number, require_whole, values_are_looked_at
from puzzlemix.mixing.base import require_lam
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
        for name in ("beta", "gamma", "eta", "t_eps"):
            require_number(name, getattr(self, name))
        require_whole("neigh_size", self.neigh_size, least=1)
        require_whole("n_labels", self.n_labels, least=2)
        if self.t_size is not None:
            require_whole("t_size", self.t_size, least=1)
        require_choice("solver", self.solver, SOLVERS)
        fits = self.gamma <= 1 or self.solver == "swap"  # above 1 a weight could be negative
        require(fits, f"gamma must lie in [0, 1], not {self.gamma}: only solver=swap takes more")
        known = isinstance(self.transport, bool) or str(self.transport) in PLANS
        require(known, f"transport must be true, false, or one of {', '.join(PLANS)}, not {self.transport}")

    def check_grid(self, grid: Grid, height: int, width: int) -> None:
        """Raise `InputError` where masks of this grid cannot be made for images of this size, in pixels."""
        fits = 1 <= grid[0] <= height and 1 <= grid[1] <= width
        pixels, blocks = f"{height} x {width} pixels", f"{grid[0]} x {grid[1]} blocks"
        require(fits, f"images of {pixels} are smaller than a grid of {blocks}: use fewer blocks")
        check_solver(self.solver, self.beta, grid)


def check_pairs(images: Tensor, partner: Tensor, lam: float | Tensor) -> None:
    """Raise `InputError` on images that are not pixels, and partners and shares that do not fit them."""
    check_tensor("images", images)
    require(images.ndim == 4, f"images must have shape (B, C, H, W), not {tuple(images.shape)}")
    require(images.numel() > 0, f"images of shape {tuple(images.shape)} hold no pixels")
    check_tensor("partner", partner, images, images.shape[:1], torch.int64)
    require_lam(lam, images)
    if values_are_looked_at(images.device.type):
        dark, bright = (float(value) for value in images.detach().aminmax())
        pixels = dark >= -0.5 and bright <= 1.5  # bicubic resizing overshoots; what is normalised is further off
        remedy = "divide them by 255, or give PuzzleMix the mean and std that they were normalised with"
        require(pixels, f"images must be pixels in [0, 1], not from {dark:.3g} to {bright:.3g}: {remedy}")
        low, high = int(partner.min()), int(partner.max())
        valid = 0 <= low <= high < len(images)
        require(valid, f"partner must lie in [0, {len(images) - 1}], not from {low} to {high}")


def check_saliency(saliency: Tensor, images: Tensor) -> None:
    """Raise `InputError` unless it is that of images (B, C, H, W)."""
    check_tensor("saliency", saliency, images, (len(images), *images.shape[2:]))
    if values_are_looked_at(images.device.type):
        least = float(saliency.detach().nan_to_num(0).min())
        require(least >= 0, f"saliency must not be negative, not {least:.3g}: take its magnitude")


def check_noisy(noisy: Sequence[bool | Tensor], images: Tensor) -> None:
    """Raise `InputError` unless it is said of both sides of a pair, in one word or of each image."""
    both = isinstance(noisy, Sequence) and len(noisy) == 2
    require(both, f"noisy must say of the first and of the second image, such as (True, False), not {noisy}")
    for side in noisy:
        if isinstance(side, Tensor):
            check_tensor("noisy", side, images, images.shape[:1], torch.bool)


def check_noise(noise: Tensor | None, noisy: Sequence[bool | Tensor], images: Tensor) -> None:
    """Raise `InputError` unless there is noise of the images' shape where one is `noisy`, and that is said of both."""
    check_noisy(noisy, images)
    if noise is not None:
        check_tensor("noise", noise, images, images.shape)
    require(noise is not None or not some_are(noisy), "noisy asks for noise: give noise=, of the images' shape")


def some_are(noisy: Sequence[bool | Tensor]) -> bool:
    """Whether images may carry noise; of tensors, which a GPU would be waited for, it is taken as true."""
    return any(isinstance(side, Tensor) or side for side in noisy)


def check_tensor(
    name: str, given: Tensor, images: Tensor | None = None, shape: Sequence[int] = (), dtype: torch.dtype | None = None
) -> None:
    """Raise `InputError` unless it is a tensor of this shape on the images' device, of `dtype` or floating point."""
    require(isinstance(given, Tensor), f"{name} must be a tensor, not {type(given).__name__}")
    if images is not None:
        require(given.shape == tuple(shape), f"{name} must have shape {tuple(shape)}, not {tuple(given.shape)}")
        same = given.device == images.device
        require(same, f"{name} must be on the images' device, {images.device}, not {given.device}")
    if dtype is None:
        require(given.is_floating_point(), f"{name} must be floating point, not {given.dtype}")
    else:
        require(given.dtype == dtype, f"{name} must be {dtype}, not {given.dtype}")


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
