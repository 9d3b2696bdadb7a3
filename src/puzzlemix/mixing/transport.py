"""Transport: which block of an image moves where, so that what is salient lands where the mask shows the image.

The paper's Algorithm 1 for masked transport, as released: sources bid for targets, round by round.
"""

from __future__ import annotations

import torch
from torch import Tensor

from puzzlemix.errors import require
from puzzlemix.mixing.blocks import Grid

MAX_CELLS = 1024  # of an image; their costs take 4 MB, in float32, and a few times that while they are compared


def transport_grid(mask_grid: Grid, size: tuple[int, int], t_size: int | None) -> Grid:
    """The grid on which blocks move: the mask's own, or finer where its blocks are larger than `t_size` pixels."""
    if t_size is None:
        return mask_grid
    return tuple(max(n, length // t_size) for n, length in zip(mask_grid, size, strict=True))


def check_transport_grid(grid: Grid) -> None:
    """Raise `InputError` on more cells than can be moved: the cost of every move is kept, for every image."""
    require(
        grid[0] * grid[1] <= MAX_CELLS,
        f"transport would move {grid[0]} x {grid[1]} cells, more than {MAX_CELLS} in all: give a larger t_size, or "
        "null to move the mask's blocks",
    )


def transport_plan(saliency: Tensor, visible: Tensor, t_eps: float) -> Tensor:
    """For every target cell the source cell that moves there.

    cost(i, j) = t_eps |pos_i - pos_j|^2 / (N - 1)^2 - s_i v_j. In each of N rounds every source bids on its cheapest
    target, every target keeps its cheapest bidder, and every loser finds that one cost raised by 1. All ties go to the
    lowest index. Only losers bid again, so the rounds end early once nobody loses.

    Args:
        saliency: s (B, N_h, N_w), an image's shares.
        visible: v (B, N_h, N_w) bool, where the mask shows this image.
        t_eps: xi, what a move costs.

    Returns:
        (B, N_h, N_w) int64, cells counted row by row. A target that nobody won names itself; as long as moves cost
        something (t_eps > 0) it is never a visible one.

    Source: Algorithm 1; `transport_image` of the authors' release, whose plan is the same at visible targets.
    """
    if saliency.device.type == "cpu":
        return _plan_on_cpu(saliency, visible, t_eps)
    return _plan_of_all_costs(saliency, visible, t_eps)


def _plan_on_cpu(saliency: Tensor, visible: Tensor, t_eps: float) -> Tensor:
    """Image by image, where costs are worked out when a bid needs them."""
    from puzzlemix.mixing.compiled import for_all_images, transport  # here, so that importing this does not need numba

    steps, squared = transport.moves(tuple(saliency.shape[1:]))
    longest = max(max(saliency.shape[1:]) - 1, 1) ** 2
    move_cost = (t_eps * torch.from_numpy(squared).to(saliency.dtype) / longest).numpy()
    plan = torch.empty(saliency.shape, dtype=torch.int64)
    arrays = [t.detach().contiguous().numpy() for t in (saliency, visible)]
    looked_at = 20 * plan.numel()  # targets: the near ones of each source
    for_all_images(transport.plan_images, len(plan), looked_at, *arrays, steps, move_cost, plan.numpy())
    return plan


def _plan_of_all_costs(saliency: Tensor, visible: Tensor, t_eps: float) -> Tensor:
    """All images at once, from the costs of all moves, (B, N_h N_w, N_h N_w)."""
    batch, n_h, n_w = saliency.shape
    cells = n_h * n_w
    gain = saliency.reshape(batch, cells, 1) * visible.reshape(batch, 1, cells)  # (B, source, target)
    cost = t_eps * squared_distances((n_h, n_w), saliency.device, saliency.dtype) - gain
    image = torch.arange(batch, device=cost.device)[:, None]  # (B, 1)
    source = torch.arange(cells, device=cost.device)  # (N_h N_w,)
    bid = cost.argmin(-1)  # (B, source): the target of each source
    for turn in range(max(n_h, n_w)):
        offer = cost[image, source, bid]  # (B, source)
        winner = _cheapest_bidder(bid, offer)  # (B, target), `cells` where none
        lost = winner.gather(-1, bid) != source  # (B, source)
        if turn == max(n_h, n_w) - 1 or not lost.any():
            break
        b, i = lost.nonzero(as_tuple=True)
        cost[b, i, bid[b, i]] += 1
        bid[b, i] = cost[b, i].argmin(-1)
    return torch.where(winner < cells, winner, source).view_as(saliency)


def _cheapest_bidder(bid: Tensor, offer: Tensor) -> Tensor:
    """The source with the lowest offer at each target, lowest index on ties, (B, N); N where there is no bid."""
    cells = bid.shape[-1]
    best = torch.full_like(offer, torch.inf).scatter_reduce(-1, bid, offer, "amin")  # (B, target)
    index = torch.arange(cells, device=bid.device).expand_as(bid)
    index = torch.where(offer == best.gather(-1, bid), index, cells)
    return torch.full_like(bid, cells).scatter_reduce(-1, bid, index, "amin")


def squared_distances(grid: Grid, device: torch.device, dtype: torch.dtype) -> Tensor:
    """|pos_i - pos_j|^2 / (N - 1)^2 between all cells, (N_h N_w, N_h N_w), N the longer side."""
    rows, columns = torch.meshgrid(*(torch.arange(n, device=device) for n in grid), indexing="ij")
    position = torch.stack([rows.flatten(), columns.flatten()], dim=-1)  # (N_h N_w, 2)
    squared = (position[:, None] - position).square().sum(-1)
    return squared.to(dtype) / max(max(grid) - 1, 1) ** 2
