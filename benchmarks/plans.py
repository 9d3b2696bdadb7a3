"""How far the released auction's transport is from the plan of least cost, and what each takes."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from benchmarks.clock import now_s
from benchmarks.pairs import BLOCKS, Pairs
from puzzlemix.mixing.blocks import resample_grid
from puzzlemix.mixing.cut import solve_mask
from puzzlemix.mixing.transport import PLANS, move_costs, transport_grid, transport_plan

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
T_EPS = (0.8, 0.08, 0.008)  # the released one, and moves ten and a hundred times cheaper
ROUNDING = 1e-5  # of a plan's cost, in shares of an image's saliency


def compare(batches: Sequence[Pairs]) -> Iterator[tuple[str, ...]]:
    """Rows as in `HEADER`, of both images of each pair, with exact masks; lambda drawn for each pair, evenly."""
    for t_eps in T_EPS:
        for n in BLOCKS:
            generator = torch.Generator().manual_seed(0)
            moved, saved, ms = ({plan: [] for plan in PLANS} for _ in range(3))
            for pairs in batches:
                lam = torch.rand(len(pairs.images), generator=generator).to(pairs.images.device)  # (B,)
                share, visible = _shares_and_visible(pairs, lam, n)
                stay = torch.arange(share[0].numel(), device=share.device).view(share.shape[1:]).expand(share.shape)
                for plan in PLANS:
                    if not ms[plan]:
                        transport_plan(share, visible, t_eps, plan)  # which compiles, the first time
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
    """The sum over an image's visible cells of what it costs to fill each from its source: (B,) float64.

    Args:
        saliency: (B, N_h, N_w), shares.
        visible: (B, N_h, N_w) bool.
        sources: (B, N_h, N_w) int64, cells counted row by row.
    """
    _, n_h, n_w = saliency.shape
    move = move_costs((n_h, n_w), t_eps, saliency.dtype, saliency.device)
    cell = torch.arange(n_h * n_w, device=saliency.device).view(n_h, n_w)
    down, right = (sources // n_w - cell // n_w).abs(), (sources % n_w - cell % n_w).abs()
    gain = saliency.flatten(1).gather(1, sources.flatten(1)).view_as(saliency)
    return ((move[down, right] - gain).double() * visible).sum((1, 2))


def _shares_and_visible(pairs: Pairs, lam: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """What `transport_plan` takes, for both images of each pair: (2 B, N_h, N_w) each."""
    share = pairs.shares((n, n))
    mask = solve_mask(pairs.mask_costs(share), lam, pairs.parameters.eta, pairs.parameters.n_labels, "exact")
    fine = transport_grid((n, n), pairs.images.shape[-2:], pairs.parameters.t_size)
    share = share if fine == (n, n) else pairs.shares(fine)
    fine_mask = resample_grid(mask, fine)
    return torch.cat([share, share[pairs.partner]]), torch.cat([fine_mask > 0, fine_mask < 1])
