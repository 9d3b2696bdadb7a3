"""How far the released auction's plans are from the plans of least cost, and how long each takes."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from benchmarks.pairs import BLOCKS, Pairs
from puzzlemix.mixing.cut import solve_mask
from puzzlemix.mixing.transport import PLANS, move_costs, transport_plan
from puzzlemix.runtime.stopwatch import now_s

HEADER = (
    "t_eps",
    "blocks",
    "visible cells that another fills, %: auction",
    "exact",
    "saved of the cost of staying, % of saliency: auction",
    "exact",
    "plans of more than the least cost, %",
    "ms a batch: auction",
    "exact",
)
T_EPS = (0.8, 0.08, 0.008)  # the released cost of moving, a tenth and a hundredth of it
ROUNDING = 1e-5  # error of a plan's cost, as a share of an image's saliency


def compare(batches: Sequence[Pairs]) -> Iterator[tuple[str, ...]]:
    """Rows as in `HEADER`, for both images of each pair, with exact masks and lambda of each pair from U(0, 1)."""
    for t_eps in T_EPS:
        for n in BLOCKS:
            generator = torch.Generator().manual_seed(0)
            moved, saved, ms = ({plan: [] for plan in PLANS} for _ in range(3))
            for pairs in batches:
                lam = torch.rand(len(pairs.images), generator=generator).to(pairs.images.device)  # (B,)
                share = pairs.shares((n, n))
                eta, n_labels = pairs.parameters.eta, pairs.parameters.n_labels
                mask = solve_mask(pairs.mask_costs(share), lam, eta, n_labels, "exact")
                share, visible = pairs.transport_cells(mask, share)
                stay = torch.arange(share[0].numel(), device=share.device).view(share.shape[1:]).expand(share.shape)
                for plan in PLANS:
                    if not ms[plan]:
                        transport_plan(share, visible, t_eps, plan)  # the first call compiles
                    start_s = now_s(share.device)
                    sources = transport_plan(share, visible, t_eps, plan)
                    ms[plan].append(1000 * (now_s(share.device) - start_s))
                    moved[plan].append((sources != stay)[visible])
                    saved[plan].append(
                        plan_costs(share, visible, stay, t_eps) - plan_costs(share, visible, sources, t_eps)
                    )
            worse = torch.cat(saved["exact"]) - torch.cat(saved["auction"]) > ROUNDING
            shares = [100 * torch.cat(of[plan]).double().mean() for of in (moved, saved) for plan in PLANS]
            times = [sorted(ms[plan])[len(ms[plan]) // 2] for plan in PLANS]
            figures = [f"{share:.3f}" for share in (*shares, 100 * worse.double().mean())]
            yield (str(t_eps), str(n), *figures, *(f"{t:.1f}" for t in times))


def plan_costs(saliency: Tensor, visible: Tensor, sources: Tensor, t_eps: float) -> Tensor:
    """The cost of a plan: the sum over an image's visible cells of the cost to fill each from its source, (B,) float64.

    Args:
        saliency: (B, N_h, N_w), shares of an image's saliency.
        visible: (B, N_h, N_w) bool.
        sources: (B, N_h, N_w) int64, numbers of cells, counted row by row.
    """
    _, n_h, n_w = saliency.shape
    move = move_costs((n_h, n_w), t_eps, saliency.dtype, saliency.device)
    cell = torch.arange(n_h * n_w, device=saliency.device).view(n_h, n_w)
    down, right = (sources // n_w - cell // n_w).abs(), (sources % n_w - cell % n_w).abs()
    gain = saliency.flatten(1).gather(1, sources.flatten(1)).view_as(saliency)
    return ((move[down, right] - gain).double() * visible).sum((1, 2))
