"""The energy of a mask: block saliency, what each block costs, and how strongly neighbours hold together.

The paper's objective of the mask, as the authors' release computes it:

    sum_p [ z_p c1(p) + (1 - z_p) c0(p) + eta / (n_h n_w) prior(z_p) ] + sum_(p,q) w(p, q) (z_p - z_q)^2

over blocks p and pairs of neighbours (p, q), with z = 1 keeping the first image x0 and z = 0 taking its partner x1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, log

import numpy as np
import torch
from torch import Tensor

from puzzlemix.mixing.blocks import Grid, pool_to_grid


@dataclass
class MaskCosts:
    """The terms of E(z) that depend on the images; everything in saliency shares (an image's blocks sum to 1)."""

    keep_first: Tensor  # c1 (B, n_h, n_w): cost of z = 1, the partner's saliency that is covered
    take_second: Tensor  # c0 (B, n_h, n_w): cost of z = 0, the first image's saliency that is covered
    weight_down: Tensor  # w (B, n_h - 1, n_w): between a block and the one below
    weight_right: Tensor  # w (B, n_h, n_w - 1): between a block and the one to its right


def block_saliency(saliency: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Mean saliency of each block, divided by its sum over the image.

    An image whose saliency has a zero or non-finite sum counts as uniform (the release yields NaN there).

    Args:
        saliency: (B, H, W), not negative.
        grid: (n_h, n_w).

    Returns:
        Shares (B, n_h, n_w), each image's summing to 1, and which images fell back to uniform, (B,) bool.
    """
    pooled = pool_to_grid(saliency[:, None], grid)[:, 0]  # (B, n_h, n_w)
    total = pooled.sum((1, 2), keepdim=True)
    usable = torch.isfinite(total) & (total > 0)
    uniform = torch.full_like(pooled, 1 / (grid[0] * grid[1]))
    return torch.where(usable, pooled / torch.where(usable, total, 1), uniform), ~usable[:, 0, 0]


def mask_costs(
    first: Tensor,
    second: Tensor,
    first_saliency: Tensor,
    second_saliency: Tensor,
    beta: float,
    gamma: float,
    neigh_size: int,
) -> MaskCosts:
    """Costs and weights of E(z) for a batch of pairs.

    With d_ab the pixel difference across a border, a and b saying which image supplies the first (upper, left) and the
    second side, the data term z d + (1 - z) d of the paper splits into a share for each side and a weight between them.

    Args:
        first: x0 (B, C, H, W), pixels in [0, 1].
        second: x1 (B, C, H, W).
        first_saliency: u0 (B, n_h, n_w), from `block_saliency`.
        second_saliency: u1 (B, n_h, n_w).
        beta: label smoothness, see `border_smoothness`.
        gamma: data smoothness, in [0, 1]: above 1 a weight could be negative.
        neigh_size: pixels a side that are averaged before borders are compared.

    Source: the paper's data and smoothness terms; `mixup_graph` of the authors' release.
    """
    grid = tuple(first_saliency.shape[-2:])
    smoothness = border_smoothness(beta, grid)
    data = smoothness * gamma / 2
    keep_first, take_second = second_saliency.clone(), first_saliency.clone()
    weights = []
    for axis in (-2, -1):  # borders to the block below, then to the right
        n = first_saliency.shape[axis]
        d00, d01, d10, d11 = _border_differences(first, second, grid, neigh_size, axis)
        keep_first.narrow(axis, 0, n - 1).add_(data * (d00 + d01))  # this block as the first side
        keep_first.narrow(axis, 1, n - 1).add_(data * (d00 + d10))  # ... and as the second
        take_second.narrow(axis, 0, n - 1).add_(data * (d10 + d11))
        take_second.narrow(axis, 1, n - 1).add_(data * (d01 + d11))
        weights.append(smoothness + data * (d01 + d10 - d00 - d11))
    return MaskCosts(keep_first, take_second, *weights)


def border_smoothness(beta: float, grid: Grid) -> float:
    """beta', a border's weight between flat images: beta / (16 n), n the blocks a side or their geometric mean."""
    return beta / (16 * (grid[0] * grid[1]) ** 0.5)


def _border_differences(first: Tensor, second: Tensor, grid: Grid, neigh_size: int, axis: int) -> list[Tensor]:
    """d_00, d_01, d_10, d_11 across each border along `axis`: four tensors of the grid's shape less one along it."""
    size = [length // n for length, n in zip(first.shape[-2:], grid, strict=True)]  # of a block, pixels
    k = [s // min(neigh_size, s) for s in size]  # pooled cells a block and side
    sides = []
    for images in (first, second):
        cells = pool_to_grid(images, (grid[0] * k[0], grid[1] * k[1]))  # (B, C, n_h k_h, n_w k_w)
        cells = cells.unflatten(-1, (grid[1], k[1])).unflatten(-3, (grid[0], k[0]))  # (B, C, n_h, k_h, n_w, k_w)
        if axis == -1:
            cells = cells.permute(0, 1, 4, 5, 2, 3)  # borders to the right, seen as borders below
        sides.append((cells[:, :, :-1, -1], cells[:, :, 1:, 0]))  # (B, C, n - 1, n, k): last row; next block's first
    differences = [(a[0] - b[1]).abs().mean((1, -1)) for a in sides for b in sides]  # (B, n - 1, n)
    return [d.transpose(1, 2) if axis == -1 else d for d in differences]


def label_prior(lam: float, n_labels: int) -> np.ndarray:
    """prior(z) for z = 1, ..., 0: minus the log of a binomial in lam, (m,) float64. The paper's prior."""
    m = n_labels
    return np.array([-log(comb(m - 1, i) * lam ** (m - 1 - i) * (1 - lam) ** i + 1e-8) for i in range(m)])
