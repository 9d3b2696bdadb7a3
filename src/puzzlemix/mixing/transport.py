"""Transport: which block of an image moves where, so that what is salient lands where the mask shows the image.

The plan is the paper's Algorithm 1 for masked transport, as released, an auction in which sources bid for targets round
by round, or the assignment of least cost, which the auction approaches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from puzzlemix.mixing import backend
from puzzlemix.mixing.blocks import Grid
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
    if backend.of(saliency) == "kernels":
        from puzzlemix.mixing.kernels import transport  # here, so that importing this does not need triton

        return transport.plan_images(
            saliency, visible, move_costs(tuple(saliency.shape[1:]), t_eps, saliency.dtype, saliency.device)
        )
    return _auction_on_cpu(saliency, visible, t_eps)


def _auction_on_cpu(saliency: Tensor, visible: Tensor, t_eps: float) -> Tensor:
    from puzzlemix.mixing.compiled import for_all_images, transport  # here, so that importing this does not need numba

    grid = tuple(saliency.shape[1:])
    steps = transport.moves(grid)
    down, right = abs(steps).T
    move_cost = move_costs(grid, t_eps, saliency.dtype, saliency.device)[down, right].numpy()
    plan = torch.empty(saliency.shape, dtype=torch.int64, device="cpu")
    arrays = [t.detach().contiguous().numpy() for t in (saliency, visible)]
    looked_at = 20 * plan.numel()  # targets: the near ones of each source
    for_all_images(transport.plan_images, len(plan), looked_at, *arrays, steps, move_cost, plan.numpy())
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


PLANS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"auction": auction, "exact": assignment}
