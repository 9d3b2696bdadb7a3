"""The auction of `transport.py`, image by image, without ever writing its costs down.

Few sources bid beyond their own cell, so a cost is worked out when a bid needs it: targets are looked at from near to
far until the move alone costs more than the best found, and of the raised costs only the lost bids are kept.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from puzzlemix.mixing.blocks import Grid
from puzzlemix.mixing.jit import compiled


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
