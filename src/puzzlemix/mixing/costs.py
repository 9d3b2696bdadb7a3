"""The energy of a mask: saliency of blocks, the cost of each block, and the weights between neighbours.

The paper's equation (3) for the mask, as the authors' release computes it:

    E(z) = sum_p [ z_p c1(p) + (1 - z_p) c0(p) + eta / (n_h n_w) prior(z_p) ] + sum_(p,q) w(p, q) (z_p - z_q)^2

over blocks p and pairs of neighbours (p, q). z = 1 keeps the first image x0, and z = 0 takes its partner x1.
"""

from dataclasses import dataclass
from functools import cache
from math import lgamma

import torch
from torch import Tensor

from puzzlemix.mixing.blocks import Grid, pool_to_grid


@dataclass
class MaskCosts:
    """The terms of E(z) that depend on the images, in shares of saliency (the blocks of an image sum to 1)."""

    keep_first: Tensor  # c1 (B, n_h, n_w): cost of z = 1, which covers saliency of the partner
    take_second: Tensor  # c0 (B, n_h, n_w): cost of z = 0, which covers saliency of the first image
    weight_down: Tensor  # w (B, n_h - 1, n_w): between a block and the one below
    weight_right: Tensor  # w (B, n_h, n_w - 1): between a block and the one to its right


def block_saliency(saliency: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Mean saliency of each block, divided by its sum over the image.

    Args:
        saliency: (B, H, W), not negative.
        grid: (n_h, n_w).

    Returns:
        Shares (B, n_h, n_w), which sum to 1 per image, and whether an image counts as uniform, (B,) bool, because its
        sum is 0 or not finite. (The release returns NaN for it.)
    """
    pooled = pool_to_grid(saliency, grid)  # (B, n_h, n_w)
    total = pooled.sum((1, 2), keepdim=True)
    usable = (total > 0) & (total < torch.inf)  # False for NaN
    share = torch.where(usable, pooled, 1.0) / torch.where(usable, total, grid[0] * grid[1])
    return share, ~usable[:, 0, 0]


def cells_of_blocks(images: Tensor, grid: Grid, neigh_size: int) -> Tensor:
    """Means over cells of `neigh_size` x `neigh_size` pixels: (B, C, H, W) -> (B, C, n_h, k_h, n_w, k_w).

    The costs compare these cells along the borders of blocks. A block holds k_h x k_w of them; a block that is smaller
    than `neigh_size` is one cell.
    """
    size = [length // n for length, n in zip(images.shape[-2:], grid, strict=True)]  # size of a block in pixels
    k_h, k_w = (side // min(neigh_size, side) for side in size)
    cells = pool_to_grid(images, (grid[0] * k_h, grid[1] * k_w))
    return cells.unflatten(-1, (grid[1], k_w)).unflatten(-3, (grid[0], k_h))


def mask_costs(
    first: Tensor, second: Tensor, first_saliency: Tensor, second_saliency: Tensor, beta: float, gamma: float
) -> MaskCosts:
    """Costs and weights of E(z) for a batch of pairs.

    d_ab is the pixel difference across a border if x_a supplies its first side (upper, left) and x_b its second side.
    The paper's data term z d + (1 - z) d is split into a cost for each side and a weight between them.

    Args:
        first, second: `cells_of_blocks` of x0 and x1, pixels in [0, 1].
        first_saliency, second_saliency: u0 and u1 (B, n_h, n_w), from `block_saliency`.
        beta: weight of the label smoothness, see `border_smoothness`.
        gamma: weight of the data smoothness; above 1 a border weight could be negative.

    Source: the paper's data and smoothness terms; `mixup_graph` of the authors' release.
    """
    smoothness = border_smoothness(beta, tuple(first_saliency.shape[-2:]))
    data = smoothness * gamma / 2
    keep_first, take_second = (  # each image costs the saliency of the other one that it covers
        s.clone(memory_format=torch.contiguous_format) for s in (second_saliency, first_saliency)
    )
    weights = []
    for to_the_right in (False, True):  # borders with the block below, then with the block to the right
        x0, x1, keep, take = first, second, keep_first, take_second
        if to_the_right:  # `keep` and `take` are views, which change `keep_first` and `take_second` in place
            x0, x1, keep, take = x0.permute(0, 1, 4, 5, 2, 3), x1.permute(0, 1, 4, 5, 2, 3), keep.mT, take.mT
        d00, d01, d10, d11 = (data * _border_differences(a, b) for a in (x0, x1) for b in (x0, x1))
        keep[:, :-1] += d00 + d01  # each block is the first side of a border
        take[:, :-1] += d10 + d11
        keep[:, 1:] += d00 + d10  # each block is the second side of a border
        take[:, 1:] += d01 + d11
        weight = smoothness + (d01 + d10 - d00 - d11)
        weights.append(weight.mT if to_the_right else weight)
    return MaskCosts(keep_first, take_second, *weights)


def _border_differences(first: Tensor, second: Tensor) -> Tensor:
    """Mean difference of each block's last row of cells in `first` to the row below in `second`, (B, n_h - 1, n_w)."""
    last, following = first[:, :, :-1, -1], second[:, :, 1:, 0]  # (B, C, n_h - 1, n_w, k_w)
    return (last - following).abs().mean(1).mean(-1)


def border_smoothness(beta: float, grid: Grid) -> float:
    """beta' = beta / (16 n), the weight of a border between flat images, for n = sqrt(n_h n_w) blocks per side."""
    return beta / (16 * (grid[0] * grid[1]) ** 0.5)


def label_prior(lam: float | Tensor, n_labels: int, device: torch.device) -> Tensor:
    """The paper's prior of z = 0, 1/(m-1), ..., 1: minus the log of a binomial distribution with parameter lam.

    Returns float64, (1, m) for a number lam and (B, m) for lam (B,). A number is not copied to a GPU, to save a wait.
    """
    kept, taken, ways = _binomial(n_labels, torch.device(device))
    lam = lam.to(kept)[:, None] if isinstance(lam, Tensor) else lam
    chance = ways * torch.pow(lam, kept) * torch.pow(1 - lam, taken)
    return -torch.log(chance + 1e-8).view(-1, n_labels)


@cache
def _binomial(n_labels: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For k = 0, ..., m - 1: k, m - 1 - k, and the binomial coefficient of m - 1 over k, each (m,) float64."""
    kept = torch.arange(n_labels, dtype=torch.float64, device=device)
    taken = kept.flip(0)
    return kept, taken, (lgamma(n_labels) - torch.lgamma(kept + 1) - torch.lgamma(taken + 1)).exp().round()
