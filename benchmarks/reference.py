"""Puzzle Mix's steps, saliency given, written plainly: what the package's are timed against, and tested against.

The same computation where cells divide the pixels: pooling and differences of whole tensors, gco image by image,
the transport as a tensor of all costs, (B, N^2, N^2), walked N times, as the authors' release has it, and every cell of
both images moved.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.pairs import Pairs
from puzzlemix.mixing.blocks import Grid, enlarge, move_cells
from puzzlemix.mixing.costs import MaskCosts


def shares(pairs: Pairs, grid: Grid) -> Tensor:
    """`block_saliency` of images that all have some, (B, n_h, n_w)."""
    block = [length // n for length, n in zip(pairs.saliency.shape[1:], grid, strict=True)]  # pixels
    pooled = F.avg_pool2d(pairs.saliency, block)
    return pooled / pooled.sum((1, 2), keepdim=True)


def mask_costs(pairs: Pairs, share: Tensor) -> MaskCosts:
    """`costs.mask_costs`, of shares (B, n_h, n_w)."""
    images, partner, parameters, grid = pairs.images, pairs.partner, pairs.parameters, share.shape[1:]
    block = [length // n for length, n in zip(images.shape[2:], grid, strict=True)]  # pixels
    cell = [min(parameters.neigh_size, length) for length in block]  # pixels
    of_block = [length // side for length, side in zip(block, cell, strict=True)]  # cells
    x0 = F.avg_pool2d(images, cell)  # (B, C, n_h k_h, n_w k_w)
    keep_first, take_second = share[partner], share.clone()
    smoothness = parameters.beta / (16 * (grid[0] * grid[1]) ** 0.5)
    data, weights = smoothness * parameters.gamma / 2, []
    for across in (False, True):  # borders to the right are those below of the pictures turned over
        first, second, c1, c0 = (t.mT if across else t for t in (x0, x0[partner], keep_first, take_second))
        sides = of_block[::-1] if across else of_block
        d00, d01, d10, d11 = (border_differences(p, q, *sides) for p in (first, second) for q in (first, second))
        c1[:, :-1] += data * (d00 + d01)
        c1[:, 1:] += data * (d00 + d10)
        c0[:, :-1] += data * (d10 + d11)
        c0[:, 1:] += data * (d01 + d11)
        weight = smoothness + data * (d01 + d10 - d00 - d11)
        weights.append(weight.mT if across else weight)
    return MaskCosts(keep_first, take_second, *weights)


def border_differences(first: Tensor, second: Tensor, k_h: int, k_w: int) -> Tensor:
    """d between the last cells of each block of one picture and the first ones of that below it in the other.

    Args:
        first, second: cells (B, C, n_h k_h, n_w k_w), k_h x k_w of them in a block.

    Returns:
        (B, n_h - 1, n_w).
    """
    last, following = first[:, :, k_h - 1 : -1 : k_h], second[:, :, k_h::k_h]
    return (last - following).abs().mean(1).unflatten(-1, (-1, k_w)).mean(-1)


def dense_plan(saliency: Tensor, visible: Tensor, t_eps: float) -> Tensor:
    """`transport_plan` with every cost written down and every source bidding in every round."""
    batch, n_h, n_w = saliency.shape
    cells, source = n_h * n_w, torch.arange(n_h * n_w, device=saliency.device)
    gain = saliency.view(batch, cells, 1) * visible.view(batch, 1, cells)
    place = torch.stack([source // n_w, source % n_w]).to(saliency)  # (2, cells)
    distance = (place[:, :, None] - place[:, None]).square().sum(0)  # (source, target)
    cost = t_eps * distance / max(n_h - 1, n_w - 1, 1) ** 2 - gain  # (B, source, target)
    for _ in range(max(n_h, n_w)):
        bids = torch.zeros_like(cost, dtype=torch.bool).scatter_(2, cost.argmin(2, keepdim=True), True)
        offers = cost.masked_fill(~bids, torch.inf)
        winner = offers.argmin(1)  # (B, target)
        won = bids & (source[:, None] == winner[:, None])
        cost = cost + (bids & ~won)
    winner = torch.where(won.any(1), winner, source)
    return winner.view(batch, n_h, n_w)


def assemble(first: Tensor, second: Tensor, partner: Tensor, mask: Tensor, sources: Tensor) -> Tensor:
    """`assemble.assemble` with every cell of both images moved."""
    pixel_mask = enlarge(mask, first.shape[-2:])[:, None]
    return pixel_mask * move_cells(first, sources[0]) + (1 - pixel_mask) * move_cells(second[partner], sources[1])
