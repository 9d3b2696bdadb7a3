"""The mask: labels of the blocks that minimise E(z) of `costs.py`.

`solver="exact"` finds the minimum (`compiled/cut.py`); `solver="swap"` is the released behaviour (`swap_cut.py`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from puzzlemix.errors import require, require_choice
from puzzlemix.mixing.blocks import Grid
from puzzlemix.mixing.costs import MaskCosts, label_prior
from puzzlemix.mixing.swap_cut import check_beta, swap


def solve_mask(costs: MaskCosts, lam: float | Tensor, eta: float, n_labels: int, solver: str) -> Tensor:
    """The mask z of every pair, (B, n_h, n_w), with values i / (n_labels - 1); 1 keeps the first image.

    Args:
        costs: of `mask_costs`.
        lam: wanted share of the first image, in [0, 1]; (B,) for one an image.
        eta: weight of the prior.
        n_labels: m, how many values a mask has, from 0 to 1.
        solver: a name in `SOLVERS`.

    Raises:
        InputError: on an unknown solver or one whose library is not installed, costs that are not finite, or weights
            that the solver cannot take.
    """
    require_choice("solver", solver, SOLVERS)
    terms = (costs.keep_first, costs.take_second, costs.weight_down, costs.weight_right)
    finite = all(bool(term.isfinite().all()) for term in terms)
    require(finite, "the costs of a mask are not finite: the images hold values that are not numbers")
    return SOLVERS[solver](costs, lam, eta, n_labels)


def exact(costs: MaskCosts, lam: float | Tensor, eta: float, n_labels: int) -> Tensor:
    """A mask of the least energy, for each image. Where several have it, the one that shows most of the first image.

    Raises:
        InputError: numba is not installed, or a border weight is negative.
    """
    from puzzlemix.mixing.compiled import cut, for_all_images  # here, so that importing this does not need numba

    batch, n_h, n_w = costs.keep_first.shape
    terms = [
        t.detach().to("cpu", torch.float64).contiguous().numpy()
        for t in (costs.keep_first, costs.take_second, costs.weight_down, costs.weight_right)
    ]
    weights = terms[2:]
    least, most = (min(w.min(initial=0) for w in weights), max(w.max(initial=0) for w in weights))
    require(least >= -1e-6 * most, f"border weights must not be negative, not {least}: gamma must lie in [0, 1]")
    weights = [np.maximum(w, 0) for w in weights]  # what rounding leaves below 0 at gamma = 1
    prior = np.empty((batch, n_labels))
    prior[:] = eta / (n_h * n_w) * label_prior(lam, n_labels)[..., ::-1]  # of z = 0, ..., 1
    labels = np.empty((batch, n_h, n_w), np.int64)
    arcs = cut.arcs((n_h, n_w), n_labels - 1)
    steps = 20 * batch * arcs[0].size  # arcs are looked at some 20 times
    for_all_images(cut.solve_images, batch, steps, *terms[:2], *weights, prior, *arcs, labels)
    return torch.from_numpy(labels).to(costs.keep_first) / (n_labels - 1)


def check_solver(solver: str, beta: float, grid: Grid) -> None:
    """Raise `InputError` where a solver cannot take this beta on this grid: ask before training starts."""
    if solver == "swap":
        check_beta(beta, grid)


SOLVERS = {"exact": exact, "swap": swap}
