"""The released graph cut: the alpha-beta swap of gco (Boykov, Veksler, Zabih 2001) on integer costs, per image.

It is a local search, which sometimes misses the minimum. It stays because published numbers were made with it.
"""

import importlib
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from puzzlemix.mixing.blocks import Grid
from puzzlemix.mixing.costs import MaskCosts, label_prior
from puzzlemix.runtime.errors import InputError, require

GCO_MAX_WEIGHT = 10_000  # largest weight of a border, in gco's integers; a larger one ends the process


def swap(costs: MaskCosts, lam: float | Tensor, eta: float, n_labels: int) -> Tensor:
    """A mask of low energy for each pair, as `graphcut_multi` of the authors' release finds it; see `cut.solve_mask`.

    The release multiplies E(z) by 1000 n_h n_w and truncates it to int32. gco multiplies the result by 100,000, also in
    int32, so a cost above 21474 overflows silently. That is one block with over 8.4 % of the saliency at n = 16, or an
    eta above 1.1 with lam near 0 or 1. Raises `InputError` if gco is not installed or cannot take a border weight.
    """
    gco = _import_gco()
    n_h, n_w = costs.keep_first.shape[1:]
    z = np.linspace(1, 0, n_labels)  # gco's label i means mask value z[i]
    keep_first, take_second, down, right = (term.detach().cpu().numpy() for term in vars(costs).values())
    prior = eta / (n_h * n_w) * label_prior(lam, n_labels, "cpu").flip(1).numpy()[:, None, None]  # (B or 1, 1, 1, m)
    unary = keep_first[..., None] * z + take_second[..., None] * (1 - z) + prior  # (B, n_h, n_w, m)
    check_border_weight(max(down.max(initial=0), right.max(initial=0)), (n_h, n_w))
    unary, down, right = ((1000 * n_h * n_w * c).astype(np.int32) for c in (unary, down, right))
    label_distance = np.subtract.outer(z, z).astype(np.float32) ** 2  # (m, m), (z_p - z_q)^2
    if n_h * n_w == 1:  # gco's wrapper takes no grid without borders
        labels = unary.argmin(-1)
    else:
        labels = [
            gco.cut_grid_graph(unary[b], label_distance, down[b], right[b], algorithm="swap").reshape(n_h, n_w)
            for b in range(len(unary))
        ]
    mask = 1 - np.stack(labels) / (n_labels - 1)
    return torch.from_numpy(mask).to(costs.keep_first)


def check_border_weight(weight: float, grid: Grid) -> None:
    """Raise `InputError` if gco cannot take this weight of a border in E(z)."""
    scaled = 1000 * grid[0] * grid[1] * weight
    blocks = f"solver=swap with {grid[0]} x {grid[1]} blocks"
    limit = f"a border weight is {scaled:.0f}, and gco takes at most {GCO_MAX_WEIGHT}"
    require(scaled <= GCO_MAX_WEIGHT, f"beta is too large for {blocks}: {limit}")


def _import_gco() -> ModuleType:
    """Import gco, and remove the aliases (`np.int`, ...) that it leaves in numpy for the whole process."""
    before = set(vars(np))
    try:
        gco = importlib.import_module("gco")
    except ImportError as error:
        raise InputError('solver="swap" needs the graph-cut wrapper: pip install gco-wrapper') from error
    for alias in {"int", "float", "bool"} & (set(vars(np)) - before):
        delattr(np, alias)
    return gco
