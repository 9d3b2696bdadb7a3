"""Transport: which block of an image moves where, so that what is salient lands where the mask shows the image.

The plan is the paper's Algorithm 1 for masked transport, as released, an auction in which sources bid for targets round
by round, or the assignment of least cost, which the auction approaches.

The auction on a CPU never writes its costs down. Few sources bid beyond their own cell, so it computes a cost when a
bid needs it: it looks at targets from near to far until the move alone costs more than the best found, and of the
raised costs it keeps only the lost bids. `kernels/transport.py` is the same for a GPU.
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
    """The grid on which blocks move: the mask's own, its blocks cut into cells where they are larger than `t_size`."""
    if t_size is None:
        return mask_grid
    return tuple(n * max(1, length // n // t_size) for n, length in zip(mask_grid, size, strict=True))


def transport_plan(saliency: Tensor, visible: Tensor, t_eps: float, how: bool | str = True) -> Tensor:
    """For every target cell the source cell that moves there.

    cost(i, j) = t_eps |pos_i - pos_j|^2 / (N - 1)^2 - s_i v_j. In each of N rounds every source bids on its cheapest
    target, every target keeps its cheapest bidder, and every loser finds that one cost raised by 1. All ties go to the
    lowest index. Only losers bid again, so the rounds end early once nobody loses.

    Args:
        saliency: s (B, N_h, N_w), an image's shares.
        visible: v (B, N_h, N_w) bool, where the mask shows this image.
        t_eps: xi, what a move costs.
        how: True or "auction" for that, or "exact" for the least sum of costs over the visible targets.

    Returns:
        (B, N_h, N_w) int64, cells counted row by row. A target that got no source names itself; as long as moves cost
        something (t_eps > 0) it is never a visible one.

    Raises:
        InputError: numba (on a CPU), or scipy (of "exact"), is not installed.

    Source: Algorithm 1; `transport_image` of the authors' release, whose plan is the same at visible targets of
    positive saliency.
    """
    return PLANS["auction" if how is True else how](saliency, visible, t_eps)


def auction(saliency: Tensor, visible: Tensor, t_eps: float) -> Tensor:
    """The paper's plan."""
    if backend_for(saliency) == "triton":
        from puzzlemix.mixing.kernels import transport  # here, so that importing this does not need triton

        return transport.plan_images(
            saliency, visible, move_costs(tuple(saliency.shape[1:]), t_eps, saliency.dtype, saliency.device)
        )
    return _auction_on_cpu(saliency, visible, t_eps)


def _auction_on_cpu(saliency: Tensor, visible: Tensor, t_eps: float) -> Tensor:
    grid = tuple(saliency.shape[1:])
    steps = moves(grid)
    down, right = abs(steps).T
    move_cost = move_costs(grid, t_eps, saliency.dtype, saliency.device)[down, right].numpy()
    plan = torch.empty(saliency.shape, dtype=torch.int64, device="cpu")
    arrays = [t.detach().contiguous().numpy() for t in (saliency, visible)]
    looked_at = 20 * plan.numel()  # targets: the near ones of each source
    for_all_images(plan_images, len(plan), looked_at, *arrays, steps, move_cost, plan.numpy())
    return plan


def assignment(saliency: Tensor, visible: Tensor, t_eps: float) -> Tensor:
    """The plan of least cost: each visible target gets a source of its own. By SciPy, on the CPU, image by image."""
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
    """t_eps d^2 / (N - 1)^2 of a move by so many rows and columns, (N_h, N_w), N the longer side. Kept: read only."""
    down, right = (torch.arange(n, device=device, dtype=dtype).square() for n in grid)
    return t_eps * (down[:, None] + right) / max(max(grid) - 1, 1) ** 2


@lru_cache(maxsize=64)
def moves(grid: Grid) -> np.ndarray:
    """All steps between cells of a grid, (K, 2) rows and columns, shortest first."""
    n_h, n_w = grid
    down, right = np.meshgrid(np.arange(1 - n_h, n_h), np.arange(1 - n_w, n_w), indexing="ij")
    steps = np.stack([down.ravel(), right.ravel()], axis=1)
    return steps[np.argsort((steps**2).sum(1), kind="stable")]


@compiled
def plan_images(first, last, saliency, visible, steps, move_cost, plan):
    """The plans of images `first` to `last` of a batch.

    Args:
        first, last: which.
        saliency: s (B, N_h, N_w).
        visible: v (B, N_h, N_w) bool.
        steps: of `moves`.
        move_cost: (K,), what each of them costs, in the dtype of `saliency`.
        plan: (B, N_h, N_w) int64, filled with the source cell of each target.
    """
    _, n_h, n_w = saliency.shape
    cells, rounds = n_h * n_w, max(n_h, n_w)
    bid = np.empty(cells, np.int64)  # the target of each source
    offer = np.empty(cells, saliency.dtype)  # and its cost
    winner = np.empty(cells, np.int64)  # the source of each target, -1 for none
    lost = np.empty((cells, rounds), np.int64)  # the targets that each source lost so far,
    losses = np.empty(cells, np.int64)  # and how many they are
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
    """Where a source bids and what that costs: the lowest cost, of equal ones the lowest cell."""
    n_h, n_w = saliency.shape
    row, column = source // n_w, source % n_w
    gain = saliency[row, column]
    best, best_cost = -1, saliency.dtype.type(np.inf)
    for k in range(len(steps)):
        if move_cost[k] - gain > best_cost:
            break  # whatever is further away
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
