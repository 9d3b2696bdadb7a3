"""The mask of least energy: labels of the blocks that minimise E(z) of `costs.py`.

`solver="exact"` finds the minimum, the cut of the graph in `graph.py`: image by image on a CPU, all images at once on a
GPU (`kernels/cut.py`). `solver="swap"` is the released search (`swap.py`).

The cut on a CPU is push-relabel (Goldberg, Tarjan 1988) in first-in first-out order, with distances to the sink made
exact after every N relabels and at the end. Each push empties a node or fills an arc to exactly zero, so rounding
cannot keep it from ending, and the cut is the minimum for capacities that differ from the given ones by rounding alone.
"""

from math import isfinite

import numpy as np
import torch
from torch import Tensor

from puzzlemix.mixing.costs import MaskCosts, label_prior
from puzzlemix.mixing.graph import arcs
from puzzlemix.mixing.parallel import backend_for, compiled, for_all_images
from puzzlemix.mixing.swap import swap
from puzzlemix.runtime.errors import require, require_choice, values_are_looked_at

UP, RIGHT, DOWN, LEFT = range(4)  # as `graph.STEPS`


def solve_mask(costs: MaskCosts, lam: float | Tensor, eta: float, n_labels: int, solver: str) -> Tensor:
    """The mask z of every pair, (B, n_h, n_w), with values i / (n_labels - 1); 1 keeps the first image.

    Args:
        costs: of `mask_costs`.
        lam: wanted share of the first image, in [0, 1]; (B,) for one an image.
        eta: weight of the prior.
        n_labels: m, how many values a mask has, from 0 to 1.
        solver: a name in `SOLVERS`.

    Raises:
        InputError: on an unknown solver or one whose library is not installed, weights that it cannot take, and, where
            values are looked at, costs that are not finite or negative weights.
    """
    require_choice("solver", solver, SOLVERS)
    if values_are_looked_at(costs.keep_first.device.type):
        _check_values(costs, solver)
    return SOLVERS[solver](costs, lam, eta, n_labels)


def _check_values(costs: MaskCosts, solver: str) -> None:
    """Raise `InputError` on costs that are not finite, and on weights that `solver` cannot take."""
    ranges = [term.aminmax() for term in vars(costs).values() if term.numel()]
    ends = [(float(low), float(high)) for low, high in ranges]
    finite = all(isfinite(end) for pair in ends for end in pair)
    require(finite, "the costs of a mask are not finite: the images hold values that are not numbers")
    for low, high in ends[2:]:  # of weights; at gamma = 1 rounding leaves some below 0
        fits = solver == "swap" or low >= -1e-6 * high
        require(fits, f"border weights must not be negative, not {low}: gamma must lie in [0, 1], and pixels too")


def exact(costs: MaskCosts, lam: float | Tensor, eta: float, n_labels: int) -> Tensor:
    """A mask of the least energy, for each image. Where several have it, the one that shows most of the first image."""
    batch, n_h, n_w = costs.keep_first.shape
    prior = label_prior(lam, n_labels, costs.keep_first.device) * (eta / (n_h * n_w))
    prior = prior.expand(batch, n_labels).contiguous()
    if backend_for(prior) == "triton":
        from puzzlemix.mixing.kernels import cut  # here, so that importing this does not need triton

        labels = cut.solve_images(costs, prior)
    else:
        labels = _solve_on_cpu(costs, prior)
    return labels.to(costs.keep_first) / (n_labels - 1)


def _solve_on_cpu(costs: MaskCosts, prior: Tensor) -> Tensor:
    """Labels (B, n_h, n_w)."""
    labels = torch.empty(costs.keep_first.shape, dtype=torch.int64, device="cpu")
    terms = [term.detach().cpu().contiguous().numpy() for term in (*vars(costs).values(), prior)]
    graph = arcs(tuple(labels.shape[1:]), prior.shape[1] - 1)
    steps = 20 * len(labels) * graph[0].size  # arcs are looked at some 20 times
    for_all_images(solve_images, len(labels), steps, *terms, *graph, labels.numpy())
    return labels


@compiled
def solve_images(first, last, keep_first, take_second, weight_down, weight_right, prior, target, back, labels):
    """The labels of images `first` to `last` of a batch.

    Args:
        first, last: which.
        keep_first, take_second: c1, c0 (B, n_h, n_w).
        weight_down, weight_right: w (B, n_h - 1, n_w) and (B, n_h, n_w - 1); below 0 by rounding counts as 0.
        prior: (B, m) float64, what each label costs a block in addition.
        target, back: of `graph.arcs`.
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


SOLVERS = {"exact": exact, "swap": swap}
