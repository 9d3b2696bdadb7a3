"""The minimum cut of `graph.py`, all images and all nodes at once: synchronous push-relabel.

In every round each node pushes its excess along its open arcs, then receives what its neighbours pushed and updates its
distance to the sink. Distances are made exact before the first round and after every few rounds, so that nodes that can
no longer reach the sink drop out at once. As in `cut.py`, each push empties a node or saturates an arc, leaving exactly
0. In a batch of 100, the slowest mask of 16 x 16 blocks takes about 80 rounds, and as many steps of exact distances.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from puzzlemix.mixing.blocks import Grid
from puzzlemix.mixing.costs import MaskCosts
from puzzlemix.mixing.graph import arcs

ROUNDS = 16  # rounds until exact distances are computed again
MAX_LANES = 512


def solve_images(costs: MaskCosts, prior: Tensor) -> Tensor:
    """The labels of a batch.

    Args:
        costs: from `mask_costs`; a weight that rounding made negative counts as 0.
        prior: (B, m) float64, the additional cost of each label z = 0, ..., 1 of a block.

    Returns:
        (B, n_h, n_w) int32, from 0 (take the second image) to m - 1.
    """
    batch, n_h, n_w = costs.keep_first.shape
    layers = prior.shape[1] - 1
    target, back = _arcs_on((n_h, n_w), layers, prior.device)  # (slots, N)
    slots, nodes = target.shape
    down, right = costs.weight_down, costs.weight_right
    weights = torch.stack(
        [F.pad(down, (0, 0, 1, 0)), F.pad(right, (0, 1)), F.pad(down, (0, 0, 0, 1)), F.pad(right, (1, 0))], dim=1
    )  # (B, 4, n_h, n_w), as `graph.STEPS`
    keep_first, take_second = costs.keep_first.contiguous(), costs.take_second.contiguous()
    flows = prior.new_empty(batch, 2 * slots + 1, nodes)  # residual capacities, pushes, excess
    distance = torch.empty(batch, 2, nodes, dtype=torch.int32, device=prior.device)
    labels = torch.empty(batch, n_h, n_w, dtype=torch.int32, device=prior.device)
    lanes = min(max(32, triton.next_power_of_2(nodes)), MAX_LANES)
    _minimum_cuts[(batch,)](
        keep_first, take_second, weights, prior, target, back, flows, distance, labels, nodes,
        LAYERS=layers, ROUNDS=ROUNDS, LANES=lanes, num_warps=lanes // 32,
    )  # fmt: skip
    return labels


@lru_cache(maxsize=64)
def _arcs_on(grid: Grid, layers: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """`graph.arcs` transposed, (slots, N) int32, so that neighbouring threads read neighbouring values."""
    return tuple(torch.from_numpy(np.ascontiguousarray(table.T, np.int32)).to(device) for table in arcs(grid, layers))


@triton.jit
def _minimum_cuts(
    keep_first, take_second, weights, prior, target, back, flows, distance, labels, nodes,
    LAYERS: tl.constexpr, ROUNDS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """For one image: build the graph, push until no excess can reach the sink, and read the labels."""
    image = tl.program_id(0).to(tl.int64)
    SLOTS: tl.constexpr = 4 * LAYERS + 2
    blocks = nodes // LAYERS
    capacity = flows + image * (2 * SLOTS + 1) * nodes  # (SLOTS, N), residual capacity of each arc
    pushed = capacity + SLOTS * nodes  # (SLOTS, N), flow that each arc carried in this round
    excess = pushed + SLOTS * nodes  # (N,), at each node; negative: residual capacity of its arc to the sink
    distance += image * 2 * nodes  # (2, N), before and after a round
    _build(
        keep_first + image * blocks, take_second + image * blocks,
        weights + image * 4 * blocks, prior + image * (LAYERS + 1), capacity, excess, nodes, LAYERS, LANES,
    )  # fmt: skip
    waiting = _exact_distances(capacity, excess, target, distance, nodes, SLOTS, LANES)
    while waiting > 0:
        turn = 0
        while (turn < ROUNDS) & (waiting > 0):
            before, after = distance + turn % 2 * nodes, distance + (turn + 1) % 2 * nodes
            _push(capacity, pushed, excess, target, before, nodes, SLOTS, LANES)
            waiting = _receive(capacity, pushed, excess, target, back, before, after, nodes, SLOTS, LANES)
            turn += 1
        waiting = _exact_distances(capacity, excess, target, distance, nodes, SLOTS, LANES)
    _read_labels(distance, labels + image * blocks, nodes, LAYERS, LANES)


@triton.jit
def _build(
    keep_first, take_second, weights, prior, capacity, excess, nodes, LAYERS: tl.constexpr, LANES: tl.constexpr
):  # fmt: skip
    """Fill the capacities of the arcs, and the excess, from the cost of each label minus that of the label below."""
    blocks = nodes // LAYERS
    for start in range(0, nodes, LANES):
        v = start + tl.arange(0, LANES)
        inside = v < nodes
        block, layer = v // LAYERS, v % LAYERS
        around = tl.zeros([LANES], tl.float64)
        for direction in tl.static_range(4):
            weight = tl.maximum(tl.load(weights + direction * blocks + block, inside, other=0).to(tl.float64), 0.0)
            around += weight
            for other in range(LAYERS):
                tl.store(capacity + (direction * LAYERS + other) * nodes + v, weight / (LAYERS * LAYERS), inside)
        step = tl.load(keep_first + block, inside, other=0).to(tl.float64)
        step = (step - tl.load(take_second + block, inside, other=0)) / LAYERS
        step += tl.load(prior + layer + 1, inside, other=0) - tl.load(prior + layer, inside, other=0)
        step -= around * (LAYERS - 2 * layer - 1) / (LAYERS * LAYERS)
        tl.store(excess + v, -step, inside)
        uncuttable = tl.where(layer > 0, float("inf"), 0.0)  # never cut, because a finite cut always exists
        tl.store(capacity + 4 * LAYERS * nodes + v, uncuttable, inside)
        tl.store(capacity + (4 * LAYERS + 1) * nodes + v, 0.0, inside)
    tl.debug_barrier()


@triton.jit
def _push(capacity, pushed, excess, target, distance, nodes, SLOTS: tl.constexpr, LANES: tl.constexpr):
    """Every node pushes its excess along the open arcs that lead one step nearer to the sink."""
    for start in range(0, nodes, LANES):
        v = start + tl.arange(0, LANES)
        inside = v < nodes
        left = tl.load(excess + v, inside, other=0.0)
        own = tl.load(distance + v, inside, other=0)
        waits = (left > 0) & (own <= nodes)
        for slot in range(SLOTS):
            u = tl.load(target + slot * nodes + v, inside, other=0)
            room = tl.load(capacity + slot * nodes + v, inside, other=0.0)
            nearer = waits & (tl.load(distance + u) == own - 1)
            amount = tl.where(nearer, tl.minimum(left, room), 0.0)
            left -= amount
            tl.store(capacity + slot * nodes + v, room - amount, inside)
            tl.store(pushed + slot * nodes + v, amount, inside)
        tl.store(excess + v, left, inside)
    tl.debug_barrier()


@triton.jit
def _receive(
    capacity, pushed, excess, target, back, before, after, nodes, SLOTS: tl.constexpr, LANES: tl.constexpr
):  # fmt: skip
    """Every node receives what was pushed to it, and is relabelled if it has an excess. Returns how many can push."""
    waiting = 0
    for start in range(0, nodes, LANES):
        v = start + tl.arange(0, LANES)
        inside = v < nodes
        has = tl.load(excess + v, inside, other=0.0)
        nearest = tl.full([LANES], 0, tl.int32) + nodes  # least distance over the open arcs
        for slot in range(SLOTS):
            u = tl.load(target + slot * nodes + v, inside, other=0)
            their_slot = tl.load(back + slot * nodes + v, inside, other=0)
            came = tl.load(pushed + their_slot * nodes + u)
            room = tl.load(capacity + slot * nodes + v, inside, other=0.0) + came
            tl.store(capacity + slot * nodes + v, room, inside)
            has += came
            nearest = tl.where(room > 0, tl.minimum(nearest, tl.load(before + u)), nearest)
        own = tl.load(before + v, inside, other=0)
        own = tl.where(has > 0, tl.maximum(own, nearest + 1), own)
        tl.store(excess + v, has, inside)
        tl.store(after + v, own, inside)
        waiting += tl.sum((inside & (has > 0) & (own <= nodes)).to(tl.int32))
    tl.debug_barrier()
    return waiting


@triton.jit
def _exact_distances(capacity, excess, target, distance, nodes, SLOTS: tl.constexpr, LANES: tl.constexpr):
    """Fill `distance` with the number of open arcs on each node's shortest path to the sink, N + 1 if there is none.

    Returns how many nodes with an excess reach the sink. Distances only decrease here, so it does not matter whether a
    thread reads a neighbour's distance before or after it decreases.
    """
    for start in range(0, nodes, LANES):
        v = start + tl.arange(0, LANES)
        reaches_sink = tl.load(excess + v, v < nodes, other=0.0) < 0
        tl.store(distance + v, tl.where(reaches_sink, 1, nodes + 1), v < nodes)
    waiting, shorter = 0, 1
    while shorter > 0:
        tl.debug_barrier()
        waiting, shorter = 0, 0
        for start in range(0, nodes, LANES):
            v = start + tl.arange(0, LANES)
            inside = v < nodes
            own = tl.load(distance + v, inside, other=0)
            nearest = own - 1
            for slot in range(SLOTS):
                u = tl.load(target + slot * nodes + v, inside, other=0)
                room = tl.load(capacity + slot * nodes + v, inside, other=0.0)
                nearest = tl.where(room > 0, tl.minimum(nearest, tl.load(distance + u)), nearest)
            tl.store(distance + v, nearest + 1, inside)
            shorter += tl.sum((nearest + 1 < own).to(tl.int32))
            waits = inside & (tl.load(excess + v, inside, other=0.0) > 0) & (nearest + 1 <= nodes)
            waiting += tl.sum(waits.to(tl.int32))
    tl.debug_barrier()
    return waiting


@triton.jit
def _read_labels(distance, labels, nodes, LAYERS: tl.constexpr, LANES: tl.constexpr):
    """The label of each block is the number of its nodes that cannot reach the sink."""
    for start in range(0, nodes // LAYERS, LANES):
        block = start + tl.arange(0, LANES)
        inside = block < nodes // LAYERS
        label = tl.zeros([LANES], tl.int32)
        for layer in range(LAYERS):
            label += (tl.load(distance + block * LAYERS + layer, inside, other=0) > nodes).to(tl.int32)
        tl.store(labels + block, label, inside)
