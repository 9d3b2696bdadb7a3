"""The released graph cut: the alpha-beta swap of gco (Boykov, Veksler, Zabih 2001) on integer costs, image by image.

It is a local search and now and then misses the minimum. Kept, since published numbers were made with it.
"""

import importlib
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from puzzlemix.mixing.blocks import Grid
from puzzlemix.mixing.costs import MaskCosts, border_smoothness, label_prior
from puzzlemix.runtime.errors import InputError, require

GCO_MAX_WEIGHT = 10_000  # of a border, in gco's integers; above it gco ends the whole process


def swap(costs: MaskCosts, lam: float | Tensor, eta: float, n_labels: int) -> Tensor:
    """Alpha-beta swap on costs cut to integers, as `graphcut_multi` of the authors' release.

    The release scales E(z) by 1000 n_h n_w and truncates to int32; gco then multiplies by 100,000, in int32 too, so
    that a cost above 21474 wraps silently (one block holding over 8.4 % of the saliency at n = 16, or an eta above 1.1
    where lam is near 0 or 1). Arguments as `cut.solve_mask`'s.

    Raises:
        InputError: gco is not installed, or a border weight is more than it takes.
    """
    gco = _import_gco()
    batch, n_h, n_w = costs.keep_first.shape
    scale = _integer_scale((n_h, n_w))
    z = np.linspace(1, 0, n_labels)  # gco's label i stands for mask value z[i]
    keep_first, take_second, down, right = (
        t.detach().cpu().numpy() for t in (costs.keep_first, costs.take_second, costs.weight_down, costs.weight_right)
    )
    prior = eta / (n_h * n_w) * label_prior(lam, n_labels, "cpu").flip(1).numpy()[:, None, None]  # (B or 1, 1, 1, m)
    unary = keep_first[..., None] * z + take_second[..., None] * (1 - z) + prior  # (B, n_h, n_w, m)
    _require_weight(scale * max(down.max(initial=0), right.max(initial=0)), (n_h, n_w))
    unary, down, right = ((scale * c).astype(np.int32) for c in (unary, down, right))
    label_distance = np.subtract.outer(z, z).astype(np.float32) ** 2  # (m, m), (z_p - z_q)^2
    if n_h * n_w == 1:  # gco's wrapper takes no grid without borders
        labels = unary.argmin(-1)
    else:
        labels = [
            gco.cut_grid_graph(unary[b], label_distance, down[b], right[b], algorithm="swap").reshape(n_h, n_w)
            for b in range(batch)
        ]
    mask = 1 - np.stack(labels) / (n_labels - 1)
    return torch.from_numpy(mask).to(costs.keep_first)


def check_beta(beta: float, grid: Grid) -> None:
    """Raise `InputError` where gco cannot take this beta on this grid: ask before training starts."""
    _require_weight(_integer_scale(grid) * border_smoothness(beta, grid), grid)


def _integer_scale(grid: Grid) -> int:
    return 1000 * grid[0] * grid[1]


def _require_weight(weight: float, grid: Grid) -> None:
    require(
        weight <= GCO_MAX_WEIGHT,
        f"beta is too large for solver=swap with {grid[0]} x {grid[1]} blocks: a border weight is {weight:.0f}, "
        f"and gco takes at most {GCO_MAX_WEIGHT}",
    )


def _import_gco() -> ModuleType:
    """The graph-cut wrapper, without the aliases (`np.int`, ...) that it leaves in numpy for the whole process."""
    before = set(vars(np))
    try:
        gco = importlib.import_module("gco")
    except ImportError as error:
        raise InputError('solver="swap" needs the graph-cut wrapper: pip install gco-wrapper') from error
    for alias in {"int", "float", "bool"} & (set(vars(np)) - before):
        delattr(np, alias)
    return gco
