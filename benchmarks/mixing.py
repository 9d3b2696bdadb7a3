"""Milliseconds of Puzzle Mix's steps, saliency given: costs, cut, transport and assembly of a batch.

`exact` and `swap` are this package's, `reference` is that of `reference.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks import reference
from benchmarks.clock import now_s
from benchmarks.pairs import BLOCKS, Pairs
from puzzlemix.mixing.assembly import assemble
from puzzlemix.mixing.blocks import Grid, resample_grid
from puzzlemix.mixing.costs import MaskCosts
from puzzlemix.mixing.cut import solve_mask
from puzzlemix.mixing.puzzle import PuzzleParameters
from puzzlemix.mixing.transport import transport_grid, transport_plan

STEPS = ("costs", "cut", "transport", "assembly")
HEADER = ("batch", "blocks", "", *STEPS, "sum, ms", "times faster")
SETTINGS = (  # images, pixels a side, and what the recipes of CIFAR, Tiny-ImageNet and ImageNet say
    (100, 32, PuzzleParameters(t_size=4)),
    (100, 64, PuzzleParameters()),
    (32, 224, PuzzleParameters(neigh_size=2)),
)
LAMS = (0.1, 0.3, 0.5, 0.7, 0.9)  # in turn: how hard a cut is depends on it


class Variant(NamedTuple):
    """One way to mix."""

    shares: Callable[[Pairs, Grid], Tensor]
    mask_costs: Callable[[Pairs, Tensor], MaskCosts]
    solver: str
    plan: Callable[[Tensor, Tensor, float], Tensor]
    assemble: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


VARIANTS = {
    "exact": Variant(Pairs.shares, Pairs.mask_costs, "exact", transport_plan, assemble),
    "swap": Variant(Pairs.shares, Pairs.mask_costs, "swap", transport_plan, assemble),
    "reference": Variant(reference.shares, reference.mask_costs, "swap", reference.dense_plan, reference.assemble),
}


def mix(variant: Variant, pairs: Pairs, lam: float, grid: Grid) -> tuple[Tensor, list[float]]:
    """The mixed images (B, C, H, W), and the milliseconds of the four `STEPS`."""
    images, partner, parameters = pairs.images, pairs.partner, pairs.parameters
    moments = [now_s(images.device)]
    share = variant.shares(pairs, grid)
    costs = variant.mask_costs(pairs, share)
    moments.append(now_s(images.device))
    mask = solve_mask(costs, lam, parameters.eta, parameters.n_labels, variant.solver)
    moments.append(now_s(images.device))
    fine = transport_grid(grid, images.shape[-2:], parameters.t_size)
    share = share if fine == grid else variant.shares(pairs, fine)
    fine_mask = resample_grid(mask, fine)
    shares, visible = torch.cat([share, share[partner]]), torch.cat([fine_mask > 0, fine_mask < 1])
    sources = variant.plan(shares, visible, parameters.t_eps).view(2, -1, *fine)
    moments.append(now_s(images.device))
    mixed = variant.assemble(images, images, partner, mask, sources)
    moments.append(now_s(images.device))
    return mixed, [1000 * (end - start) for start, end in pairwise(moments)]


def benchmark(batches: Iterable[Pairs], repeats: int) -> Iterator[tuple[str, ...]]:
    """Rows as in `HEADER`: medians of the steps and of their sum, and how much faster than `reference` that is.

    `repeats` measurements follow one that warms up; the variants take turns.
    """
    for pairs in batches:
        batch, _, height, width = pairs.images.shape
        for n in BLOCKS:
            times = {name: [] for name in VARIANTS}
            for turn in range(repeats + 1):
                lam = LAMS[turn % len(LAMS)]
                for place in range(len(VARIANTS)):  # each follows each of the others, and what that left in the caches
                    name = list(VARIANTS)[(turn + place) % len(VARIANTS)]
                    times[name].append(mix(VARIANTS[name], pairs, lam, (n, n))[1])
            totals = {name: median(sum(steps) for steps in taken[1:]) for name, taken in times.items()}
            for name, taken in times.items():
                steps = [median(column) for column in zip(*taken[1:], strict=True)]
                figures = [f"{ms:.1f}" for ms in (*steps, totals[name])]
                yield (
                    f"{batch} x {height} x {width}",
                    str(n),
                    name,
                    *figures,
                    f"{totals['reference'] / totals[name]:.1f}",
                )
