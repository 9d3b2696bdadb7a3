"""The auction of `mixing/transport.py`, one program per image, without a stored cost matrix.

In a round, the losers of the last round make new bids, one tile of sources at a time; each source compares all targets.
Then each target compares all bids. Bids alternate between two rows from round to round, so that no row is read and
written at once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 8192  # costs, or bids, in registers at once


def plan_images(saliency: Tensor, visible: Tensor, move_cost: Tensor) -> Tensor:
    """The plans of a batch. Arguments and result are those of `mixing.transport.transport_plan`, except:

    Args:
        move_cost: (N_h, N_w), at [i, j] the cost of a move by i rows and j columns, in the dtype of `saliency`.
    """
    batch, n_h, n_w = saliency.shape
    cells, rounds = n_h * n_w, max(n_h, n_w)
    width = triton.next_power_of_2(cells)
    bids = torch.empty(batch, 3 + rounds, cells, dtype=torch.int32, device=saliency.device)
    offers = saliency.new_empty(batch, 2, cells)
    plan = torch.empty(saliency.shape, dtype=torch.int64, device=saliency.device)
    _plan_images[(batch,)](
        saliency.contiguous(), visible.contiguous(), move_cost, bids, offers, plan, n_h, n_w, rounds,
        WIDTH=width, SOME=max(1, min(width, TILE // width)), num_warps=8 if width > 64 else 4,
    )  # fmt: skip
    return plan


@triton.jit
def _plan_images(
    saliency, visible, move_cost, bids, offers, plan, n_h, n_w, rounds, WIDTH: tl.constexpr, SOME: tl.constexpr
):  # fmt: skip
    """All rounds of the auction for one image."""
    image, cells = tl.program_id(0).to(tl.int64), n_h * n_w
    saliency += image * cells
    visible += image * cells
    offers += image * 2 * cells  # (2, cells), the cost of each source's bid, before and after a round
    winner = bids + image * (3 + rounds) * cells  # (cells,), the source of each target, -1 for none
    bids = winner + cells  # (2, cells), the target of each source
    lost = bids + 2 * cells  # (rounds, cells), the target that each source lost in a round, -1 for none
    for start in range(0, cells, SOME):
        i = start + tl.arange(0, SOME)
        target, cost = _cheapest_targets(i, saliency, visible, move_cost, lost, 0, n_h, n_w, WIDTH, SOME)
        tl.store(bids + i, target, i < cells)
        tl.store(offers + i, cost, i < cells)
    _choose_winners(bids, offers, winner, cells, WIDTH, SOME)
    turn, losers = 0, 1
    while (turn < rounds - 1) & (losers > 0):
        here, there = turn % 2 * cells, (turn + 1) % 2 * cells
        losers = 0
        for start in range(0, cells, SOME):
            i = start + tl.arange(0, SOME)
            inside = i < cells
            bid = tl.load(bids + here + i, inside, other=0)
            offer = tl.load(offers + here + i, inside, other=0)
            loses = inside & (tl.load(winner + bid, inside, other=0) != i)
            tl.store(lost + turn * cells + i, tl.where(loses, bid, -1), inside)
            tl.debug_barrier()  # the stores to `lost` must be visible to the loads below
            if tl.sum(loses.to(tl.int32)) > 0:
                target, cost = _cheapest_targets(
                    i, saliency, visible, move_cost, lost, turn + 1, n_h, n_w, WIDTH, SOME
                )  # fmt: skip
                bid, offer = tl.where(loses, target, bid), tl.where(loses, cost, offer)
                losers += 1
            tl.store(bids + there + i, bid, inside)
            tl.store(offers + there + i, offer, inside)
        tl.debug_barrier()
        if losers > 0:
            _choose_winners(bids + there, offers + there, winner, cells, WIDTH, SOME)
        turn += 1
    for start in range(0, cells, WIDTH):
        j = start + tl.arange(0, WIDTH)
        source = tl.load(winner + j, j < cells, other=0)
        tl.store(plan + image * cells + j, tl.where(source >= 0, source, j), j < cells)


@triton.jit
def _cheapest_targets(
    i, saliency, visible, move_cost, lost, turns, n_h, n_w, WIDTH: tl.constexpr, SOME: tl.constexpr
):  # fmt: skip
    """The targets on which sources i (SOME,) bid, and their costs: the lowest cost, then the lowest index."""
    cells = n_h * n_w
    j = tl.arange(0, WIDTH)
    rows, columns = tl.abs(i[:, None] // n_w - j[None, :] // n_w), tl.abs(i[:, None] % n_w - j[None, :] % n_w)
    both = (i[:, None] < cells) & (j[None, :] < cells)
    move = tl.load(move_cost + rows * n_w + columns, both, other=float("inf"))  # (SOME, WIDTH)
    gain = tl.load(saliency + i, i < cells, other=0)
    shown = tl.load(visible + j, j < cells, other=0) != 0
    cost = tl.where(shown[None, :], move - gain[:, None], move)
    for turn in range(turns):
        was = tl.load(lost + turn * cells + i, i < cells, other=-1)
        cost = tl.where(was[:, None] == j[None, :], cost + 1, cost)
    cheapest, target = tl.min(cost, axis=1, return_indices=True)
    return target, cheapest


@triton.jit
def _choose_winners(bids, offers, winner, cells, WIDTH: tl.constexpr, SOME: tl.constexpr):
    """Fill `winner` with each target's cheapest bidder, among equal ones the lowest index; -1 if nobody bids."""
    tl.debug_barrier()
    i = tl.arange(0, WIDTH)
    bid = tl.load(bids + i, i < cells, other=-1)
    offer = tl.load(offers + i, i < cells, other=0)
    for start in range(0, cells, SOME):
        j = start + tl.arange(0, SOME)
        offered = tl.where(bid[:, None] == j[None, :], offer[:, None], float("inf"))  # (WIDTH, SOME)
        cheapest, source = tl.min(offered, axis=0, return_indices=True)
        tl.store(winner + j, tl.where(cheapest < float("inf"), source, -1), j < cells)
    tl.debug_barrier()
