"""The mask: labels of the blocks that minimise E(z) of `costs.py`.

`solver="exact"` finds the minimum, the cut of `mask_graph.py`: image by image on a CPU (`compiled/cut.py`), all at once
on a GPU (`kernels/cut.py`). `solver="swap"` is the released behaviour (`swap_cut.py`).
"""

from __future__ import annotations

from math import isfinite

import torch
from torch import Tensor

from puzzlemix.mixing import backend
from puzzlemix.mixing.blocks import Grid
from puzzlemix.mixing.costs import MaskCosts, label_prior
from puzzlemix.mixing.mask_graph import arcs
from puzzlemix.mixing.swap_cut import check_beta, swap
from puzzlemix.runtime.errors import require, require_choice, values_are_looked_at


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
    if backend.of(prior) == "kernels":
        from puzzlemix.mixing.kernels import cut  # here, so that importing this does not need triton

        labels = cut.solve_images(costs, prior)
    else:
        labels = _solve_on_cpu(costs, prior)
    return labels.to(costs.keep_first) / (n_labels - 1)


def _solve_on_cpu(costs: MaskCosts, prior: Tensor) -> Tensor:
    """Labels (B, n_h, n_w)."""
    from puzzlemix.mixing.compiled import cut, for_all_images  # here, so that importing this does not need numba

    labels = torch.empty(costs.keep_first.shape, dtype=torch.int64, device="cpu")
    terms = [term.detach().cpu().contiguous().numpy() for term in (*vars(costs).values(), prior)]
    graph = arcs(tuple(labels.shape[1:]), prior.shape[1] - 1)
    steps = 20 * len(labels) * graph[0].size  # arcs are looked at some 20 times
    for_all_images(cut.solve_images, len(labels), steps, *terms, *graph, labels.numpy())
    return labels


def check_solver(solver: str, beta: float, grid: Grid) -> None:
    """Raise `InputError` where a solver cannot take this beta on this grid: ask before training starts."""
    if solver == "swap":
        check_beta(beta, grid)


SOLVERS = {"exact": exact, "swap": swap}
