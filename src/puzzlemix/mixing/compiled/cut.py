"""The minimum cut of `mask_graph.py`, an image at a time.

Push-relabel (Goldberg, Tarjan 1988) in first-in first-out order, with distances to the sink made exact after every N
relabels and at the end. Each push empties a node or fills an arc to exactly zero, so rounding cannot keep it from
ending, and the cut is the minimum for capacities that differ from the given ones by rounding alone.
"""

from __future__ import annotations

import numpy as np

from puzzlemix.mixing.jit import compiled

UP, RIGHT, DOWN, LEFT = range(4)  # as `mask_graph.STEPS`


@compiled
def solve_images(first, last, keep_first, take_second, weight_down, weight_right, prior, target, back, labels):
    """The labels of images `first` to `last` of a batch.

    Args:
        first, last: which.
        keep_first, take_second: c1, c0 (B, n_h, n_w).
        weight_down, weight_right: w (B, n_h - 1, n_w) and (B, n_h, n_w - 1); below 0 by rounding counts as 0.
        prior: (B, m) float64, what each label costs a block beside that.
        target, back: of `mask_graph.arcs`.
        labels: (B, n_h, n_w) int64, filled with 0 (take the second image) to M.
    """
    _, n_h, n_w = keep_first.shape
    nodes, slots = target.shape
    layers = nodes // (n_h * n_w)
    capacity = np.zeros((nodes, slots))  # left on each arc
    surplus = np.zeros(nodes)  # flow waiting at a node; negative: what it can still let go to the sink
    distance = np.zeros(nodes, np.int32)
    for b in range(first, last):
        capacity[:] = 0
        for p in range(n_h * n_w):
            row, column = p // n_w, p % n_w
            weights = (
                max(weight_down[b, row - 1, column], 0.0) if row > 0 else 0.0,
                max(weight_right[b, row, column], 0.0) if column < n_w - 1 else 0.0,
                max(weight_down[b, row, column], 0.0) if row < n_h - 1 else 0.0,
                max(weight_right[b, row, column - 1], 0.0) if column > 0 else 0.0,
            )
            around = weights[UP] + weights[RIGHT] + weights[DOWN] + weights[LEFT]
            for a in range(layers):
                node = p * layers + a
                for direction in range(4):
                    for other in range(layers):
                        capacity[node, direction * layers + other] = weights[direction] / layers**2
                # what label a + 1 costs more than label a
                step = (np.float64(keep_first[b, row, column]) - take_second[b, row, column]) / layers
                step += prior[b, a + 1] - prior[b, a] - around * (layers - 2 * a - 1) / layers**2
                surplus[node] = -step
                if a > 0:
                    capacity[node, 4 * layers] = np.inf  # no minimum cut has it: a finite cut always exists
        minimum_cut(capacity, surplus, target, back, distance)
        for p in range(n_h * n_w):
            label = 0
            for a in range(layers):
                label += distance[p * layers + a] > nodes
            labels[b, p // n_w, p % n_w] = label


@compiled
def minimum_cut(capacity, surplus, target, back, distance):
    """Push the surplus of all nodes towards the sink; those that then cannot reach it are the source's side.

    They have `distance` N + 1: the longest way has N arcs. Changes `capacity` (N, slots) and `surplus` (N,) and fills
    `distance` (N,).
    """
    nodes = len(surplus)
    ring = np.empty(nodes, np.uint32)
    waits = np.zeros(nodes, np.bool_)
    for v in range(nodes):
        distance[v] = 1 if surplus[v] < 0 else 2  # or further
    waiting = nodes
    while waiting > 0:
        discharge(capacity, surplus, target, back, distance, ring, waits)
        waiting = distances_to_sink(capacity, surplus, target, back, distance, ring)


@compiled
def discharge(capacity, surplus, target, back, distance, ring, waits):
    """Let the nodes that have a surplus push it, in turn, until none has or N times one had to be moved further away.

    `ring` (N,) holds those that wait for their turn, `count` of them from `first`; `waits` (N,) says which they are.
    """
    nodes, slots = target.shape
    first, count, relabels = 0, 0, 0
    for v in range(nodes):
        waits[v] = surplus[v] > 0 and distance[v] <= nodes
        if waits[v]:
            ring[count] = v
            count += 1
    while count > 0 and relabels < nodes:
        v = ring[first]
        first = (first + 1) % nodes
        count -= 1
        waits[v] = False
        while surplus[v] > 0 and distance[v] <= nodes:
            nearest = nodes  # of the nodes to which an arc is open
            for k in range(slots):
                room = capacity[v, k]
                if room <= 0:
                    continue
                u = target[v, k]
                if distance[u] >= distance[v]:
                    nearest = min(nearest, distance[u])
                    continue
                amount = min(surplus[v], room)
                capacity[v, k] -= amount
                capacity[u, back[v, k]] += amount
                surplus[v] -= amount
                surplus[u] += amount
                if surplus[u] > 0 and not waits[u]:
                    waits[u] = True
                    ring[(first + count) % nodes] = u
                    count += 1
                if surplus[v] == 0:
                    break
            if surplus[v] > 0:
                distance[v] = nearest + 1
                relabels += 1


@compiled
def distances_to_sink(capacity, surplus, target, back, distance, queue):
    """Fill `distance` with each node's open arcs to the sink, N + 1 where no way leads there; `queue` is scratch.

    Returns how many nodes with a surplus reach it.
    """
    nodes, slots = target.shape
    distance[:] = nodes + 1
    first, last, waiting = 0, 0, 0
    for v in range(nodes):
        if surplus[v] < 0:
            distance[v] = 1
            queue[last] = v
            last += 1
    while first < last:
        v = queue[first]
        first += 1
        for k in range(slots):
            u = target[v, k]
            if distance[u] > nodes and capacity[u, back[v, k]] > 0:
                distance[u] = distance[v] + 1
                queue[last] = u
                last += 1
                waiting += surplus[u] > 0
    return waiting
