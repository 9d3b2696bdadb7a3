"""The mask of least energy: the labels of the blocks that minimise E(z) of `costs.py`.

`solver="exact"` finds the minimum, as the minimum cut of the graph in `graph.py`: on a CPU per image, on a GPU for all
images at once (`kernels/cut.py`). `solver="swap"` is the released local search (`swap.py`).

The algorithm on a CPU is push-relabel (Goldberg, Tarjan 1988) in first-in first-out order. It computes the exact
distances to the sink after every N relabels and at the end. Each push leaves an excess or a capacity of exactly 0. So
rounding cannot make the algorithm run forever. It finds the minimum for capacities that equal the given ones up to
rounding.
"""

from math import isfinite

import numpy as np
import torch
from torch import Tensor

from puzzlemix.mixing.costs import MaskCosts, label_prior
from puzzlemix.mixing.graph import arcs
from puzzlemix.mixing.parallel import backend_for, compiled, for_all_images
from puzzlemix.mixing.swap import swap
from puzzlemix.runtime.errors import require, require_choice, values_are_checked

UP, RIGHT, DOWN, LEFT = range(4)  # as `graph.STEPS`


def solve_mask(costs: MaskCosts, lam: float | Tensor, eta: float, n_labels: int, solver: str) -> Tensor:
    """The mask z of each pair, (B, n_h, n_w), with values i / (n_labels - 1); 1 keeps the first image.

    Args:
        costs: from `mask_costs`.
        lam: wanted share of the first image, in [0, 1]; a number or (B,).
        eta: weight of the prior.
        n_labels: m, the number of mask values.
        solver: a name in `SOLVERS`.

    Raises:
        InputError: the solver is unknown, its library is not installed, or it cannot take a weight. Also if costs are
            not finite or weights are negative, on devices where `values_are_checked`.
    """
    require_choice("solver", solver, SOLVERS)
    if values_are_checked(costs.keep_first.device.type):
        ranges = [[float(end) for end in term.aminmax()] for term in vars(costs).values() if term.numel()]
        is_finite = all(isfinite(end) for pair in ranges for end in pair)
        require(is_finite, "the costs of a mask are not finite: the images hold values that are not numbers")
        for low, high in ranges[2:]:  # the weights; if gamma is 1, rounding makes some negative
            fits = solver == "swap" or low >= -1e-6 * high
            require(fits, f"border weights must be 0 or more, not {low}: gamma must lie in [0, 1], and pixels too")
    return SOLVERS[solver](costs, lam, eta, n_labels)


def exact(costs: MaskCosts, lam: float | Tensor, eta: float, n_labels: int) -> Tensor:
    """A mask of least energy for each pair. Among several it is the one that shows most of the first image."""
    batch, n_h, n_w = costs.keep_first.shape
    prior = label_prior(lam, n_labels, costs.keep_first.device) * (eta / (n_h * n_w))
    prior = prior.expand(batch, n_labels).contiguous()
    if backend_for(prior) == "triton":
        from puzzlemix.mixing.kernels import cut  # imported here, because the CPU needs no triton

        labels = cut.solve_images(costs, prior)
    else:
        labels = torch.empty(costs.keep_first.shape, dtype=torch.int64, device="cpu")
        terms = [term.detach().cpu().contiguous().numpy() for term in (*vars(costs).values(), prior)]
        graph = arcs((n_h, n_w), n_labels - 1)
        steps = 20 * batch * graph[0].size  # each arc is visited some 20 times
        for_all_images(solve_images, batch, steps, *terms, *graph, labels.numpy())
    return labels.to(costs.keep_first) / (n_labels - 1)


@compiled
def solve_images(first, last, keep_first, take_second, weight_down, weight_right, prior, target, back, labels):
    """Fill `labels` (B, n_h, n_w), from 0 (take the second image) to M, for images `first` to `last` - 1.

    The costs and weights are those of `MaskCosts`; a weight that rounding made negative counts as 0. `prior` (B, m) is
    the additional cost of each label of a block. `target` and `back` are those of `graph.arcs`.
    """
    _, n_h, n_w = keep_first.shape
    nodes, slots = target.shape
    layers = nodes // (n_h * n_w)
    capacity = np.zeros((nodes, slots))  # residual capacity of each arc
    excess = np.zeros(nodes)  # flow that waits at a node; negative: residual capacity of its arc to the sink
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
                    capacity[node, direction * layers : (direction + 1) * layers] = weights[direction] / layers**2
                # what label a + 1 costs more than label a
                step = (np.float64(keep_first[b, row, column]) - take_second[b, row, column]) / layers
                step += prior[b, a + 1] - prior[b, a] - around * (layers - 2 * a - 1) / layers**2
                excess[node] = -step
                if a > 0:
                    capacity[node, 4 * layers] = np.inf  # never cut, because a finite cut always exists
        minimum_cut(capacity, excess, target, back, distance)
        for p in range(n_h * n_w):
            labels[b, p // n_w, p % n_w] = (distance[p * layers : (p + 1) * layers] > nodes).sum()


@compiled
def minimum_cut(capacity, excess, target, back, distance):
    """Push the excess of all nodes towards the sink. Nodes that cannot reach it at the end are the source's side.

    Their `distance`, (N,), is N + 1: the longest path has N arcs. The function also changes `capacity` and `excess`.
    """
    nodes = len(excess)
    ring = np.empty(nodes, np.uint32)
    waits = np.zeros(nodes, np.bool_)
    distance[:] = np.where(excess < 0, 1, 2)  # a lower bound
    waiting = nodes
    while waiting > 0:
        discharge(capacity, excess, target, back, distance, ring, waits)
        waiting = distances_to_sink(capacity, excess, target, back, distance, ring)


@compiled
def discharge(capacity, excess, target, back, distance, ring, waits):
    """Push the excess of one node after another, until no node has any, or until N relabels are done.

    The queue is a ring buffer (N,): `count` nodes from position `first` on. `waits` (N,) says whether a node is in it.
    """
    nodes, slots = target.shape
    first, count, relabels = 0, 0, 0
    for v in range(nodes):
        waits[v] = excess[v] > 0 and distance[v] <= nodes
        if waits[v]:
            ring[count] = v
            count += 1
    while count > 0 and relabels < nodes:
        v = ring[first]
        first = (first + 1) % nodes
        count -= 1
        waits[v] = False
        while excess[v] > 0 and distance[v] <= nodes:
            nearest = nodes  # least distance over the open arcs
            for k in range(slots):
                room = capacity[v, k]
                if room <= 0:
                    continue
                u = target[v, k]
                if distance[u] >= distance[v]:
                    nearest = min(nearest, distance[u])
                    continue
                amount = min(excess[v], room)
                capacity[v, k] -= amount
                capacity[u, back[v, k]] += amount
                excess[v] -= amount
                excess[u] += amount
                if excess[u] > 0 and not waits[u]:
                    waits[u] = True
                    ring[(first + count) % nodes] = u
                    count += 1
                if excess[v] == 0:
                    break
            if excess[v] > 0:
                distance[v] = nearest + 1
                relabels += 1


@compiled
def distances_to_sink(capacity, excess, target, back, distance, queue):
    """Fill `distance` with the number of open arcs on each node's shortest path to the sink, N + 1 if there is none.

    Returns how many nodes with an excess reach the sink. `queue` (N,) is scratch memory.
    """
    nodes, slots = target.shape
    distance[:] = nodes + 1
    first, last, waiting = 0, 0, 0
    for v in range(nodes):
        if excess[v] < 0:
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
                waiting += excess[u] > 0
    return waiting


SOLVERS = {"exact": exact, "swap": swap}
