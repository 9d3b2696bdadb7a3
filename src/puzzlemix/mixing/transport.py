"""Transport: which block of an image moves where, so that salient blocks land where the mask shows the image.

The plan is that of the released auction, the paper's Algorithm 1, or the assignment of least cost, which the auction
approximates. The auction never stores its cost matrix, because few sources bid on another cell than their own. On a CPU
a source visits targets from near to far, and stops when the move alone costs more than the best target so far. The CPU
stores the bids that a source has lost, instead of the costs that these raised. `kernels/transport.py` is the auction on
a GPU.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from puzzlemix.mixing.blocks import Grid
from puzzlemix.mixing.parallel import backend_for, compiled, for_all_images
from puzzlemix.runtime.errors import InputError


def transport_grid(mask_grid: Grid, size: tuple[int, int], t_size: int | None) -> Grid:
    """The grid whose cells move: the mask's grid, but blocks larger than `t_size` pixels are cut into cells."""
    if t_size is None:
        return mask_grid
    return tuple(n * max(1, length // n // t_size) for n, length in zip(mask_grid, size, strict=True))


def transport_plan(saliency: Tensor, visible: Tensor, t_eps: float, how: bool | str = True) -> Tensor:
    """The source cell that moves to each target cell.

    cost(i, j) = t_eps |pos_i - pos_j|^2 / (N - 1)^2 - s_i v_j. In each of N rounds every source bids on its cheapest
    target, every target keeps its cheapest bidder, and the cost of a lost bid rises by 1. Ties go to the lowest index.
    Only losers bid again, so the rounds end early if nobody loses.

    Args:
        saliency: s (B, N_h, N_w), the shares of each image.
        visible: v (B, N_h, N_w) bool, where the mask shows this image.
        t_eps: xi, the cost of a move across the whole image.
        how: True or "auction" for the rounds above, or "exact" for the least sum of costs over the visible targets.

    Returns:
        (B, N_h, N_w) int64, cells counted row by row. A target without a source names itself. With t_eps > 0 such a
        target is never visible.

    Source: Algorithm 1; `transport_image` of the authors' release makes the same plan for visible targets of positive
    saliency.
    """
    return PLANS["auction" if how is True else how](saliency, visible, t_eps)


def auction(saliency: Tensor, visible: Tensor, t_eps: float) -> Tensor:
    """The plan of the paper's Algorithm 1."""
    grid = tuple(saliency.shape[1:])
    move_cost = move_costs(grid, t_eps, saliency.dtype, saliency.device)
    if backend_for(saliency) == "triton":
        from puzzlemix.mixing.kernels import transport  # imported here, because the CPU needs no triton

        return transport.plan_images(saliency, visible, move_cost)
    steps = moves(grid)
    down, right = abs(steps).T
    plan = torch.empty(saliency.shape, dtype=torch.int64, device="cpu")
    arrays = [t.detach().contiguous().numpy() for t in (saliency, visible)]
    visited = 20 * plan.numel()  # number of targets that are visited: those near each source
    for_all_images(plan_images, len(plan), visited, *arrays, steps, move_cost[down, right].numpy(), plan.numpy())
    return plan


def assignment(saliency: Tensor, visible: Tensor, t_eps: float) -> Tensor:
    """The plan of least cost, with a different source for each visible target: by SciPy, on the CPU, per image."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise InputError('transport="exact" needs SciPy: pip install scipy') from error

    n_h, n_w = saliency.shape[1:]
    move_cost = move_costs((n_h, n_w), t_eps, saliency.dtype, torch.device("cpu")).numpy()
    row, column = np.divmod(np.arange(n_h * n_w), n_w)
    move = move_cost[abs(row[:, None] - row), abs(column[:, None] - column)]  # (N_h N_w, N_h N_w)
    plan = np.tile(np.arange(n_h * n_w), (len(saliency), 1))  # (B, N_h N_w)
    shares, visible = (t.detach().cpu().flatten(1).numpy() for t in (saliency, visible))
    for b in range(len(plan)):
        target = visible[b].nonzero()[0]
        which, source = linear_sum_assignment(move[target] - shares[b])
        plan[b, target[which]] = source
    return torch.from_numpy(plan).view(saliency.shape).to(saliency.device)


@lru_cache(maxsize=64)
def move_costs(grid: Grid, t_eps: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The cost t_eps d^2 / (N - 1)^2 of a move by i rows and j columns, at [i, j] of (N_h, N_w); N is the longer side.

    The result is cached: do not change it.
    """
    down, right = (torch.arange(n, device=device, dtype=dtype).square() for n in grid)
    return t_eps * (down[:, None] + right) / max(max(grid) - 1, 1) ** 2


@lru_cache(maxsize=64)
def moves(grid: Grid) -> np.ndarray:
    """All moves between cells of a grid as rows and columns, (K, 2), shortest first."""
    n_h, n_w = grid
    down, right = np.meshgrid(np.arange(1 - n_h, n_h), np.arange(1 - n_w, n_w), indexing="ij")
    steps = np.stack([down.ravel(), right.ravel()], axis=1)
    return steps[np.argsort((steps**2).sum(1), kind="stable")]


@compiled
def plan_images(first, last, saliency, visible, steps, move_cost, plan):
    """Fill `plan` for images `first` to `last` - 1; `saliency`, `visible` and `plan` as in `transport_plan`.

    `move_cost` (K,) has the cost of each of the `moves` in `steps`, in the dtype of `saliency`.
    """
    _, n_h, n_w = saliency.shape
    cells, rounds = n_h * n_w, max(n_h, n_w)
    bid = np.empty(cells, np.int64)  # the target of each source
    offer = np.empty(cells, saliency.dtype)  # the cost of that bid
    winner = np.empty(cells, np.int64)  # the source of each target, -1 for none
    lost = np.empty((cells, rounds), np.int64)  # the targets that each source has lost
    losses = np.empty(cells, np.int64)  # the number of these targets
    for b in range(first, last):
        losses[:] = 0
        for i in range(cells):
            bid[i], offer[i] = cheapest_target(i, saliency[b], visible[b], steps, move_cost, lost[i, :0])
        for turn in range(rounds):
            winner[:] = -1
            for i in range(cells):
                j = bid[i]
                if winner[j] < 0 or offer[i] < offer[winner[j]]:
                    winner[j] = i
            if turn == rounds - 1:
                break
            anybody_lost = False
            for i in range(cells):
                if winner[bid[i]] != i:
                    anybody_lost = True
                    lost[i, losses[i]] = bid[i]
                    losses[i] += 1
                    bid[i], offer[i] = cheapest_target(
                        i, saliency[b], visible[b], steps, move_cost, lost[i, : losses[i]]
                    )
            if not anybody_lost:
                break
        for j in range(cells):
            plan[b, j // n_w, j % n_w] = winner[j] if winner[j] >= 0 else j


@compiled
def cheapest_target(source, saliency, visible, steps, move_cost, lost):
    """The target on which a source bids, and its cost: the lowest cost, and among equal ones the lowest index."""
    n_h, n_w = saliency.shape
    row, column = source // n_w, source % n_w
    gain = saliency[row, column]
    best, best_cost = -1, saliency.dtype.type(np.inf)
    for k in range(len(steps)):
        if move_cost[k] - gain > best_cost:
            break  # all other targets are at least as far away
        y, x = row + steps[k, 0], column + steps[k, 1]
        if not (0 <= y < n_h and 0 <= x < n_w):
            continue
        target = y * n_w + x
        cost = move_cost[k] - gain if visible[y, x] else move_cost[k]
        for j in lost:
            if j == target:
                cost += 1
        if cost < best_cost or (cost == best_cost and target < best):
            best, best_cost = target, cost
    return best, best_cost


PLANS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"auction": auction, "exact": assignment}
