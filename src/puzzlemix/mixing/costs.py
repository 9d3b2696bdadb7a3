"""The energy of a mask: block saliency, what each block costs, and how strongly neighbours hold together.

The paper's objective of the mask, as the authors' release computes it:

    sum_p [ z_p c1(p) + (1 - z_p) c0(p) + eta / (n_h n_w) prior(z_p) ] + sum_(p,q) w(p, q) (z_p - z_q)^2

over blocks p and pairs of neighbours (p, q), with z = 1 keeping the first image x0 and z = 0 taking its partner x1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

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


def cells_of_blocks(images: Tensor, grid: Grid, neigh_size: int) -> Tensor:
    """Means of `neigh_size` x `neigh_size` pixels, block by block: (B, C, H, W) -> (B, C, n_h, k_h, n_w, k_w).

    Blocks are compared by what lies along their borders in cells of that size, of which k_h x k_w fit into a block; a
    smaller block is one cell.
    """
    size = [length // n for length, n in zip(images.shape[-2:], grid, strict=True)]  # of a block, pixels
    k_h, k_w = (side // min(neigh_size, side) for side in size)
    cells = pool_to_grid(images, (grid[0] * k_h, grid[1] * k_w))
    return cells.unflatten(-1, (grid[1], k_w)).unflatten(-3, (grid[0], k_h))


def mask_costs(
    first: Tensor, second: Tensor, first_saliency: Tensor, second_saliency: Tensor, beta: float, gamma: float
) -> MaskCosts:
    """Costs and weights of E(z) for a batch of pairs.

    With d_ab the pixel difference across a border, a and b saying which image supplies the first (upper, left) and the
    second side, the data term z d + (1 - z) d of the paper splits into a share for each side and a weight between them.

    Args:
        first: `cells_of_blocks` of x0, pixels in [0, 1].
        second: of x1.
        first_saliency: u0 (B, n_h, n_w), from `block_saliency`.
        second_saliency: u1 (B, n_h, n_w).
        beta: label smoothness, see `border_smoothness`.
        gamma: data smoothness, in [0, 1]: above 1 a weight could be negative.

    Source: the paper's data and smoothness terms; `mixup_graph` of the authors' release.
    """
    grid = tuple(first_saliency.shape[-2:])
    smoothness = border_smoothness(beta, grid)
    data = smoothness * gamma / 2
    # each side costs what it covers of the other's saliency, and its share of the borders
    keep_first, take_second = (
        s.clone(memory_format=torch.contiguous_format) for s in (second_saliency, first_saliency)
    )
    if first.device.type == "cpu":
        return _costs_on_cpu(first, second, keep_first, take_second, smoothness, data)
    weights = []
    for axis in (-2, -1):  # borders to the block below, then to the right
        n = first_saliency.shape[axis]
        d00, d01, d10, d11 = _border_differences(first, second, axis)
        keep_first.narrow(axis, 0, n - 1).add_(data * (d00 + d01))  # this block as the first side
        keep_first.narrow(axis, 1, n - 1).add_(data * (d00 + d10))  # ... and as the second
        take_second.narrow(axis, 0, n - 1).add_(data * (d10 + d11))
        take_second.narrow(axis, 1, n - 1).add_(data * (d01 + d11))
        weights.append(smoothness + data * (d01 + d10 - d00 - d11))
    return MaskCosts(keep_first, take_second, *weights)


def _costs_on_cpu(
    first: Tensor, second: Tensor, keep_first: Tensor, take_second: Tensor, smoothness: float, data: float
) -> MaskCosts:
    """The terms of both kinds of borders, added to the saliency that a side covers."""
    from puzzlemix.mixing.compiled import costs, for_all_images  # here, so that importing this does not need numba

    batch, n_h, n_w = keep_first.shape
    weights = keep_first.new_empty(batch, n_h - 1, n_w), keep_first.new_empty(batch, n_h, n_w - 1)
    first, second = first.contiguous().numpy(), second.contiguous().numpy()
    terms = keep_first.numpy(), take_second.numpy()
    for below, weight in zip((True, False), weights, strict=True):
        for_all_images(
            costs.add_borders, batch, 4 * first.size, first, second, smoothness, data, below, *terms, weight.numpy()
        )
    return MaskCosts(keep_first, take_second, *weights)


def border_smoothness(beta: float, grid: Grid) -> float:
    """beta', a border's weight between flat images: beta / (16 n), n the blocks a side or their geometric mean."""
    return beta / (16 * (grid[0] * grid[1]) ** 0.5)


def _border_differences(first: Tensor, second: Tensor, axis: int) -> list[Tensor]:
    """d_00, d_01, d_10, d_11 across each border along `axis`: four tensors of the grid's shape less one along it."""
    if axis == -2:  # last row of each block, first row of the next: (B, C, n_h - 1, n_w, k_w)
        sides, along = [(cells[:, :, :-1, -1], cells[:, :, 1:, 0]) for cells in (first, second)], (1, 4)
    else:  # last column, first column: (B, C, n_h, k_h, n_w - 1)
        sides, along = [(cells[..., :-1, -1], cells[..., 1:, 0]) for cells in (first, second)], (1, 3)
    return [(a[0] - b[1]).abs().mean(along) for a in sides for b in sides]


def label_prior(lam: float | Tensor, n_labels: int) -> np.ndarray:
    """prior(z) for z = 1, ..., 0: minus the log of a binomial in lam, (m,) float64; of (B,) lam (B, m). The paper's."""
    lam = lam.detach().cpu().numpy() if isinstance(lam, Tensor) else lam
    share, second = np.asarray(lam, np.float64)[..., None], np.arange(n_labels)
    ways = np.array([comb(n_labels - 1, i) for i in second], np.float64)
    return -np.log(ways * share ** (n_labels - 1 - second) * (1 - share) ** second + 1e-8)
