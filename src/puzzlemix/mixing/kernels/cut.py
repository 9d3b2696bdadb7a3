"""The minimum cut of `graph.py`, all images and all nodes at once: synchronous push-relabel.

In every round each node pushes what it has too much of along its open arcs, then takes in what came and looks at its
neighbours' distances to the sink again. Before the first round and after every few, distances are made exact, so that
what can reach the sink no more drops out at once. As in `cut.py`, each push empties a node or fills an arc to
exactly zero. Of a batch of 100, the slowest mask of 16 x 16 blocks takes some 80 rounds, and as many steps towards
exact distances.
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

ROUNDS = 16  # between exact distances
MAX_LANES = 512


def solve_images(costs: MaskCosts, prior: Tensor) -> Tensor:
    """The labels of a batch.

    Args:
        costs: of `mask_costs`; a weight below 0, by rounding, counts as 0.
        prior: (B, m) float64, what each label, z = 0, ..., 1, costs a block in addition.

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
    flows = prior.new_empty(batch, 2 * slots + 1, nodes)  # of arcs what they can take and what was pushed; surplus
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
    """`graph.arcs`, an arc of all nodes side by side, (slots, N) int32."""
    return tuple(torch.from_numpy(np.ascontiguousarray(table.T, np.int32)).to(device) for table in arcs(grid, layers))


@triton.jit
def _minimum_cuts(
    keep_first, take_second, weights, prior, target, back, flows, distance, labels, nodes,
    LAYERS: tl.constexpr, ROUNDS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """One image: build its graph, push until nothing more reaches the sink, and read its labels off."""
    image = tl.program_id(0).to(tl.int64)
    SLOTS: tl.constexpr = 4 * LAYERS + 2
    blocks = nodes // LAYERS
    capacity = flows + image * (2 * SLOTS + 1) * nodes  # (SLOTS, N), what an arc can still take
    pushed = capacity + SLOTS * nodes  # (SLOTS, N), what went along it in this round
    surplus = pushed + SLOTS * nodes  # (N,), waiting at a node; negative: what it can still let go to the sink
    distance += image * 2 * nodes  # (2, N), before a round and after it
    _build(
        keep_first + image * blocks, take_second + image * blocks,
        weights + image * 4 * blocks, prior + image * (LAYERS + 1), capacity, surplus, nodes, LAYERS, LANES,
    )  # fmt: skip
    waiting = _exact_distances(capacity, surplus, target, distance, nodes, SLOTS, LANES)
    while waiting > 0:
        turn = 0
        while (turn < ROUNDS) & (waiting > 0):
            before, after = distance + turn % 2 * nodes, distance + (turn + 1) % 2 * nodes
            _push(capacity, pushed, surplus, target, before, nodes, SLOTS, LANES)
            waiting = _receive(capacity, pushed, surplus, target, back, before, after, nodes, SLOTS, LANES)
            turn += 1
        waiting = _exact_distances(capacity, surplus, target, distance, nodes, SLOTS, LANES)
    _read_labels(distance, labels + image * blocks, nodes, LAYERS, LANES)


@triton.jit
def _build(
    keep_first, take_second, weights, prior, capacity, surplus, nodes, LAYERS: tl.constexpr, LANES: tl.constexpr
):  # fmt: skip
    """What arcs can take, and what each label costs more than the one below it, as surplus."""
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
        tl.store(surplus + v, -step, inside)
        uncuttable = tl.where(layer > 0, float("inf"), 0.0)  # no minimum cut has it: a finite cut always exists
        tl.store(capacity + 4 * LAYERS * nodes + v, uncuttable, inside)
        tl.store(capacity + (4 * LAYERS + 1) * nodes + v, 0.0, inside)
    tl.debug_barrier()


@triton.jit
def _push(capacity, pushed, surplus, target, distance, nodes, SLOTS: tl.constexpr, LANES: tl.constexpr):
    """Every node pushes its surplus along open arcs that lead one step nearer to the sink."""
    for start in range(0, nodes, LANES):
        v = start + tl.arange(0, LANES)
        inside = v < nodes
        left = tl.load(surplus + v, inside, other=0.0)
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
        tl.store(surplus + v, left, inside)
    tl.debug_barrier()


@triton.jit
def _receive(
    capacity, pushed, surplus, target, back, before, after, nodes, SLOTS: tl.constexpr, LANES: tl.constexpr
):  # fmt: skip
    """Every node takes in what was pushed to it, and one with a surplus sees how far the sink is now; how many wait."""
    waiting = 0
    for start in range(0, nodes, LANES):
        v = start + tl.arange(0, LANES)
        inside = v < nodes
        has = tl.load(surplus + v, inside, other=0.0)
        nearest = tl.full([LANES], 0, tl.int32) + nodes  # of the nodes to which an arc is open
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
        tl.store(surplus + v, has, inside)
        tl.store(after + v, own, inside)
        waiting += tl.sum((inside & (has > 0) & (own <= nodes)).to(tl.int32))
    tl.debug_barrier()
    return waiting


@triton.jit
def _exact_distances(capacity, surplus, target, distance, nodes, SLOTS: tl.constexpr, LANES: tl.constexpr):
    """Every node's open arcs to the sink, N + 1 where no way leads there; how many nodes with a surplus reach it.

    Distances only get shorter here, so it does not matter whether a neighbour's is read before or after it did.
    """
    for start in range(0, nodes, LANES):
        v = start + tl.arange(0, LANES)
        lets_go = tl.load(surplus + v, v < nodes, other=0.0) < 0
        tl.store(distance + v, tl.where(lets_go, 1, nodes + 1), v < nodes)
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
            waits = inside & (tl.load(surplus + v, inside, other=0.0) > 0) & (nearest + 1 <= nodes)
            waiting += tl.sum(waits.to(tl.int32))
    tl.debug_barrier()
    return waiting


@triton.jit
def _read_labels(distance, labels, nodes, LAYERS: tl.constexpr, LANES: tl.constexpr):
    """The label of each block: how many of its nodes cannot reach the sink."""
    for start in range(0, nodes // LAYERS, LANES):
        block = start + tl.arange(0, LANES)
        inside = block < nodes // LAYERS
        label = tl.zeros([LANES], tl.int32)
        for layer in range(LAYERS):
            label += (tl.load(distance + block * LAYERS + layer, inside, other=0) > nodes).to(tl.int32)
        tl.store(labels + block, label, inside)
