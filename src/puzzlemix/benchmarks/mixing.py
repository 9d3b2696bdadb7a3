"""Milliseconds of Puzzle Mix's steps, saliency given: costs, cut, transport and assembly of a batch.

`exact` and `swap` are this package's; `reference` is the same computation written plainly: gco image by image, and the
transport as a tensor of all costs, (B, N^2, N^2), walked N times, as the authors' release has it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from puzzlemix.benchmarks.pairs import BLOCKS, Pairs
from puzzlemix.mixing.assemble import assemble
from puzzlemix.mixing.blocks import Grid, enlarge, move_cells, resample_grid
from puzzlemix.mixing.costs import block_saliency
from puzzlemix.mixing.graphcut import solve_mask
from puzzlemix.mixing.transport import move_costs, transport_grid, transport_plan

STEPS = ("costs", "cut", "transport", "assembly")
HEADER = ("batch", "blocks", "", *STEPS, "sum, ms", "times faster")
SETTINGS = ((100, 32, 4), (100, 64, None), (32, 224, None))  # images, pixels a side, t_size
LAMS = (0.1, 0.3, 0.5, 0.7, 0.9)  # in turn: how hard a cut is depends on it


class Variant(NamedTuple):
    """One way to mix."""

    solver: str
    plan: Callable[[Tensor, Tensor, float], Tensor]
    assemble: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def dense_plan(saliency: Tensor, visible: Tensor, t_eps: float) -> Tensor:
    """`transport_plan` with every cost written down and every source bidding in every round."""
    batch, n_h, n_w = saliency.shape
    cells, source = n_h * n_w, torch.arange(n_h * n_w, device=saliency.device)
    gain = saliency.view(batch, cells, 1) * visible.view(batch, 1, cells)
    row, column = source // n_w, source % n_w
    down, right = ((place[:, None] - place).abs() for place in (row, column))  # (source, target)
    cost = move_costs((n_h, n_w), t_eps, saliency.dtype, saliency.device)[down, right] - gain  # (B, source, target)
    for _ in range(max(n_h, n_w)):
        bids = torch.zeros_like(cost, dtype=torch.bool).scatter_(2, cost.argmin(2, keepdim=True), True)
        offers = cost.masked_fill(~bids, torch.inf)
        winner = offers.argmin(1)  # (B, target)
        won = bids & (source[:, None] == winner[:, None])
        cost = cost + (bids & ~won)
    winner = torch.where(won.any(1), winner, source)
    return winner.view(batch, n_h, n_w)


def plain_assembly(first: Tensor, second: Tensor, partner: Tensor, mask: Tensor, sources: Tensor) -> Tensor:
    """`assemble` with every cell of both images moved."""
    pixel_mask = enlarge(mask, first.shape[-2:])[:, None]
    return pixel_mask * move_cells(first, sources[0]) + (1 - pixel_mask) * move_cells(second[partner], sources[1])


VARIANTS = {
    "exact": Variant("exact", transport_plan, assemble),
    "swap": Variant("swap", transport_plan, assemble),
    "reference": Variant("swap", dense_plan, plain_assembly),
}


def time_variant(variant: Variant, pairs: Pairs, lam: float, grid: Grid) -> list[float]:
    """Milliseconds of the four `STEPS`, once."""
    images, partner, parameters = pairs.images, pairs.partner, pairs.parameters
    moments = [_now(images.device)]
    costs, share = pairs.mask_costs(grid)
    moments.append(_now(images.device))
    mask = solve_mask(costs, lam, parameters.eta, parameters.n_labels, variant.solver)
    moments.append(_now(images.device))
    fine = transport_grid(grid, images.shape[-2:], parameters.t_size)
    share = share if fine == grid else block_saliency(pairs.saliency, fine)[0]
    fine_mask = resample_grid(mask, fine)
    shares, visible = torch.cat([share, share[partner]]), torch.cat([fine_mask > 0, fine_mask < 1])
    sources = variant.plan(shares, visible, parameters.t_eps).view(2, -1, *fine)
    moments.append(_now(images.device))
    variant.assemble(images, images, partner, mask, sources)
    moments.append(_now(images.device))
    return [1000 * (end - start) for start, end in pairwise(moments)]


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
                    times[name].append(time_variant(VARIANTS[name], pairs, lam, (n, n)))
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


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
