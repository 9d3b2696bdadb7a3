"""Milliseconds of Puzzle Mix's steps, saliency given: costs, cut, transport and assembly of a batch.

`exact` and `swap` are this package's; `reference` is the same computation written plainly: gco image by image, and the
transport as a tensor of all costs, (B, N^2, N^2), walked N times, as the authors' release has it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from puzzlemix.mixing.assemble import assemble
from puzzlemix.mixing.blocks import Grid, enlarge, move_cells, resample_grid
from puzzlemix.mixing.costs import block_saliency, cells_of_blocks, mask_costs
from puzzlemix.mixing.graphcut import solve_mask
from puzzlemix.mixing.transport import move_costs, transport_grid, transport_plan

STEPS = ("costs", "cut", "transport", "assembly")
BETA, GAMMA, ETA, NEIGH_SIZE, N_LABELS, T_EPS = 1.2, 0.5, 0.2, 4, 3, 0.8
LAMS = (0.1, 0.3, 0.5, 0.7, 0.9)  # in turn: how hard a cut is depends on it


class Setting(NamedTuple):
    """Size of the batch and of the cells that move."""

    batch: int
    pixels: int  # a side
    t_size: int | None


SETTINGS = (Setting(100, 32, 4), Setting(100, 64, None), Setting(32, 224, None))


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


def time_variant(
    variant: Variant, images: Tensor, saliency: Tensor, lam: float, grid: Grid, t_size: int | None
) -> list[float]:
    """Milliseconds of the four `STEPS`, once."""
    partner = torch.arange(len(images), device=images.device).roll(1)
    moments = [_now(images.device)]
    share, _ = block_saliency(saliency, grid)
    cells = cells_of_blocks(images, grid, NEIGH_SIZE)
    costs = mask_costs(cells, cells[partner], share, share[partner], BETA, GAMMA)
    moments.append(_now(images.device))
    mask = solve_mask(costs, lam, ETA, N_LABELS, variant.solver)
    moments.append(_now(images.device))
    fine = transport_grid(grid, images.shape[-2:], t_size)
    share = share if fine == grid else block_saliency(saliency, fine)[0]
    fine_mask = resample_grid(mask, fine)
    shares, visible = torch.cat([share, share[partner]]), torch.cat([fine_mask > 0, fine_mask < 1])
    sources = variant.plan(shares, visible, T_EPS).view(2, -1, *fine)
    moments.append(_now(images.device))
    variant.assemble(images, images, partner, mask, sources)
    moments.append(_now(images.device))
    return [1000 * (end - start) for start, end in pairwise(moments)]


def benchmark(images_of: Callable[[Setting], tuple[Tensor, Tensor]], repeats: int) -> Iterator[tuple[str, ...]]:
    """Rows: size, blocks, variant, median milliseconds of the steps and of their sum, times faster than `reference`.

    Args:
        images_of: gives images (B, C, H, W) in [0, 1] and their saliency (B, H, W) for a setting.
        repeats: measurements after one that warms up; the variants take turns.
    """
    for setting in SETTINGS:
        images, saliency = images_of(setting)
        for n in (2, 4, 8, 16):
            times = {name: [] for name in VARIANTS}
            for turn in range(repeats + 1):
                lam = LAMS[turn % len(LAMS)]
                for place in range(len(VARIANTS)):  # each follows each of the others, and what that left in the caches
                    name = list(VARIANTS)[(turn + place) % len(VARIANTS)]
                    times[name].append(time_variant(VARIANTS[name], images, saliency, lam, (n, n), setting.t_size))
            totals = {name: median(sum(steps) for steps in taken[1:]) for name, taken in times.items()}
            for name, taken in times.items():
                steps = [median(column) for column in zip(*taken[1:], strict=True)]
                figures = [f"{ms:.1f}" for ms in (*steps, totals[name])]
                size = f"{setting.batch} x {setting.pixels} x {setting.pixels}"
                yield (size, str(n), name, *figures, f"{totals['reference'] / totals[name]:.1f}")


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
