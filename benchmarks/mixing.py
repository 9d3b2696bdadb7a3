"""Milliseconds of mixing a batch with both solvers: costs, cut, transport and assembly, with the saliency given."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from statistics import median

from torch import Tensor

from benchmarks.pairs import BLOCKS, Pairs
from puzzlemix.mixing.assembly import assemble
from puzzlemix.mixing.blocks import Grid
from puzzlemix.mixing.cut import solve_mask
from puzzlemix.mixing.puzzle import PuzzleParameters
from puzzlemix.mixing.transport import transport_plan
from puzzlemix.runtime.stopwatch import now_s

STEPS = ("costs", "cut", "transport", "assembly")
HEADER = ("batch", "blocks", "", *STEPS, "sum, ms", "times faster")
SETTINGS = (  # images, pixels per side, and the parameters of the recipes for CIFAR, Tiny-ImageNet and ImageNet
    (100, 32, PuzzleParameters(t_size=4)),
    (100, 64, PuzzleParameters()),
    (32, 224, PuzzleParameters(neigh_size=2)),
)
LAMS = (0.1, 0.3, 0.5, 0.7, 0.9)  # taken in turn, since lambda decides how hard a cut is
SOLVERS = "exact", "swap"


def mix(solver: str, pairs: Pairs, lam: float, grid: Grid) -> tuple[Tensor, list[float]]:
    """The mixed images (B, C, H, W), and the milliseconds of the four `STEPS`."""
    images, partner, parameters = pairs.images, pairs.partner, pairs.parameters
    moments = [now_s(images.device)]
    share = pairs.shares(grid)
    costs = pairs.mask_costs(share)
    moments.append(now_s(images.device))
    mask = solve_mask(costs, lam, parameters.eta, parameters.n_labels, solver)
    moments.append(now_s(images.device))
    shares, visible = pairs.transport_cells(mask, share)
    sources = transport_plan(shares, visible, parameters.t_eps).view(2, -1, *shares.shape[1:])
    moments.append(now_s(images.device))
    mixed = assemble(images, images, partner, mask, sources)
    moments.append(now_s(images.device))
    return mixed, [1000 * (end - start) for start, end in pairwise(moments)]


def benchmark(batches: Iterable[Pairs], repeats: int) -> Iterator[tuple[str, ...]]:
    """Rows as in `HEADER`: medians of the steps and of their sum, and how many times faster than `swap` the sum is.

    The first measurement warms up, then `repeats` of them count. The solvers take turns.
    """
    for pairs in batches:
        batch, _, height, width = pairs.images.shape
        for n in BLOCKS:
            times = {solver: [] for solver in SOLVERS}
            for turn in range(repeats + 1):
                lam = LAMS[turn % len(LAMS)]
                for solver in SOLVERS if turn % 2 else SOLVERS[::-1]:
                    times[solver].append(mix(solver, pairs, lam, (n, n))[1])
            totals = {solver: median(sum(steps) for steps in taken[1:]) for solver, taken in times.items()}
            for solver, taken in times.items():
                steps = [median(column) for column in zip(*taken[1:], strict=True)]
                figures = [f"{ms:.1f}" for ms in (*steps, totals[solver])]
                ratio = f"{totals['swap'] / totals[solver]:.1f}"
                yield f"{batch} x {height} x {width}", str(n), solver, *figures, ratio
