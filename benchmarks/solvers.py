"""How often the released search for a mask misses the least energy, and by how much."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from benchmarks.pairs import BLOCKS, Pairs
from puzzlemix.mixing.costs import MaskCosts, label_prior
from puzzlemix.mixing.cut import solve_mask

HEADER = (
    "blocks",
    "masks",
    "other masks, %",
    "other labels, %",
    "energy above the least, %: mean",
    "where masks differ",
    "largest",
    "more than 0.1 % above, % of masks",
)
MISSED = 1e-3  # excess, as a share of the least energy, from which a mask counts as missed


def compare(batches: Sequence[Pairs]) -> Iterator[tuple[str, ...]]:
    """Rows as in `HEADER`, `swap` against `exact`, with lambda drawn for each pair from U(0, 1)."""
    generator = torch.Generator().manual_seed(0)
    for n in BLOCKS:
        other, excess = [], []  # for each batch, (B,): share of the labels that differ, and excess of the energy
        for pairs in batches:
            lam = torch.rand(len(pairs.images), generator=generator).to(pairs.images.device)  # (B,)
            costs = pairs.mask_costs(pairs.shares((n, n)))
            eta, n_labels = pairs.parameters.eta, pairs.parameters.n_labels
            exact, swap = (solve_mask(costs, lam, eta, n_labels, solver) for solver in ("exact", "swap"))
            least = energies(costs, exact, lam, eta, n_labels)
            other.append((exact != swap).double().mean((1, 2)))
            excess.append(energies(costs, swap, lam, eta, n_labels) / least - 1)
        other, excess = torch.cat(other), torch.cat(excess)
        differ = other > 0
        missed = (excess > MISSED).double().mean()
        shares = differ.double().mean(), other.mean(), excess.mean(), excess[differ].mean(), excess.max(), missed
        yield (str(n), str(len(other)), *("-" if share.isnan() else f"{100 * share:.3f}" for share in shares))


def energies(costs: MaskCosts, mask: Tensor, lam: Tensor, eta: float, n_labels: int) -> Tensor:
    """E(z) of the mask (B, n_h, n_w) of each pair: (B,) float64."""
    z = mask.double()
    label = (z * (n_labels - 1)).round().long()
    prior = eta / z[0].numel() * label_prior(lam, n_labels, z.device)  # (B, m)
    own = z * costs.keep_first + (1 - z) * costs.take_second + prior.gather(1, label.flatten(1)).view_as(z)
    down = costs.weight_down * z.diff(dim=1).square()
    right = costs.weight_right * z.diff(dim=2).square()
    return sum(term.sum((1, 2)) for term in (own, down, right))
