"""The proof that `solver="exact"` finds the minimum: random instances compared with oracles that share nothing with it.

    python tests/mixing/exact_proof.py 200000 [--device=cuda]

Grids of up to 9 blocks are compared with all masks, larger ones with SciPy's maximum flow on integers.
`test_exact_cut.py` runs a part of it.
"""

import argparse
from functools import cache
from itertools import product

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow
from scipy.stats import binom
from tqdm import tqdm

from puzzlemix.mixing.costs import MaskCosts
from puzzlemix.mixing.cut import solve_mask

BATCH = 50
# (grid, m) with at most 262,144 masks, and how often each comes
EXHAUSTED = {
    ((1, 1), 2): 1, ((1, 1), 3): 1, ((1, 1), 4): 1,
    ((1, 2), 4): 1, ((2, 1), 3): 1, ((2, 2), 2): 4, ((2, 2), 3): 8, ((2, 2), 4): 8, ((1, 6), 3): 4, ((5, 1), 4): 4,
    ((2, 3), 3): 8, ((3, 2), 4): 2, ((3, 3), 2): 4, ((2, 4), 3): 2, ((3, 3), 3): 1, ((3, 3), 4): 0.05,
}  # fmt: skip
BY_FLOW = {
    ((4, 4), 2): 4, ((4, 4), 3): 8, ((4, 4), 5): 2, ((8, 8), 2): 2, ((8, 8), 3): 4, ((1, 30), 4): 2, ((12, 3), 3): 2,
    ((16, 16), 3): 0.5,
}  # fmt: skip
KINDS = ("images", "zero", "equal", "one block", "beta 0", "gamma 0", "gamma 1", "ties", "tiny", "huge")


def random_instances(kind, grid, n_labels, rng, batch=BATCH):
    """Costs in float64, lam (batch,) and eta of one of the `KINDS`."""
    n_h, n_w = grid
    cells = n_h * n_w
    shares = rng.exponential(size=(2, batch, n_h, n_w)) ** rng.uniform(0.3, 3)
    shares /= shares.sum((-1, -2), keepdims=True)
    smooth = rng.uniform(0, 3) / (16 * cells**0.5)
    down, right = (smooth * rng.uniform(0.5, 1.5, (batch, *shape)) for shape in ((n_h - 1, n_w), (n_h, n_w - 1)))
    eta = rng.choice([0.0, 0.2, 1.0])
    lam = rng.choice([0, 1, 1e-6, 1 - 1e-6, 0.5, *rng.random(5)], batch)
    match kind:
        case "zero":
            shares, down, right, eta = 0 * shares, 0 * down, 0 * right, 0.0
        case "equal":
            shares, down, right = (
                np.full_like(shares, 1 / cells),
                np.full_like(down, smooth),
                np.full_like(right, smooth),
            )
        case "one block":
            shares = np.zeros_like(shares)
            for side, b in product(range(2), range(batch)):
                shares[side, b, rng.integers(n_h), rng.integers(n_w)] = 1
        case "beta 0":
            down, right = 0 * down, 0 * right
            shares[:, ::2] = 1 / cells  # every other pair has equal saliency too
        case "gamma 0":
            down, right = np.full_like(down, smooth), np.full_like(right, smooth)
        case "gamma 1":  # where weights come down to 0
            down, right = (np.maximum(smooth * rng.uniform(-0.5, 2, w.shape), 0) for w in (down, right))
        case "ties":
            shares, down, right = (rng.integers(0, 3, a.shape).astype(float) for a in (shares, down, right))
            eta = 0.0
        case "tiny" | "huge":
            scale = 1e-30 if kind == "tiny" else 1e30
            shares, down, right, eta = scale * shares, scale * down, scale * right, scale * eta
    return MaskCosts(*map(torch.from_numpy, (shares[0], shares[1], down, right))), torch.from_numpy(lam), eta


def unary_costs(costs, lam, eta, n_labels):
    """The cost of each label 0, ..., m - 1 (z = 0, ..., 1) in each block: (B, n_h, n_w, m)."""
    c1, c0 = costs.keep_first.numpy()[..., None], costs.take_second.numpy()[..., None]
    z = np.linspace(0, 1, n_labels)
    chance = binom.pmf(np.arange(n_labels), n_labels - 1, lam.numpy()[:, None, None, None])
    return z * c1 + (1 - z) * c0 - eta / c1[0].size * np.log(chance + 1e-8)


def energies(costs, unary, labels):
    """The energy E of each instance with labels (B, n_h, n_w): (B,)."""
    z = labels / (unary.shape[-1] - 1)
    own = np.take_along_axis(unary, labels[..., None], -1).sum((1, 2, 3))
    down = (costs.weight_down.numpy() * (z[:, 1:] - z[:, :-1]) ** 2).sum((1, 2))
    return own + down + (costs.weight_right.numpy() * (z[:, :, 1:] - z[:, :, :-1]) ** 2).sum((1, 2))


def magnitude(costs, unary):
    """The sum of the magnitudes of all terms of an energy, (B,), with which rounding is compared."""
    weights = costs.weight_down.numpy().sum((1, 2)) + costs.weight_right.numpy().sum((1, 2))
    return np.abs(unary).sum((1, 2, 3)) + weights


# --- oracles ---


@cache
def all_labels(grid, n_labels):
    """All masks as labels (A, cells), and the squares of their steps across borders down (A, .) and right (A, .)."""
    labels = np.array(list(product(range(n_labels), repeat=grid[0] * grid[1])), np.int8)
    z = labels.reshape(-1, *grid) / (n_labels - 1)
    steps = (z[:, 1:] - z[:, :-1]) ** 2, (z[:, :, 1:] - z[:, :, :-1]) ** 2
    return labels, *(step.reshape(len(labels), -1) for step in steps)


def lowest_by_exhaustion(costs, unary):
    """The least energy of all masks, (B,)."""
    batch, *grid, n_labels = unary.shape
    labels, steps_down, steps_right = all_labels(tuple(grid), n_labels)
    lowest = np.empty(batch)
    for b in range(batch):
        own = sum(unary[b].reshape(-1, n_labels)[p, labels[:, p]] for p in range(labels.shape[1]))
        pairs = steps_down @ costs.weight_down[b].numpy().ravel() + steps_right @ costs.weight_right[b].numpy().ravel()
        lowest[b] = (own + pairs).min()
    return lowest


def lowest_by_flow(costs, unary, units):
    """The least energy, (B,), by SciPy's maximum flow on costs rounded to integer multiples of 1 / units."""
    batch, n_h, n_w, n_labels = unary.shape
    top, block = n_labels - 1, np.arange(n_h * n_w).reshape(n_h, n_w)
    source, sink = n_h * n_w * top, n_h * n_w * top + 1
    chain = np.arange(source).reshape(-1, top)  # with label s, the first s nodes are on the source's side
    borders = [(block[:-1], block[1:], costs.weight_down), (block[:, :-1], block[:, 1:], costs.weight_right)]
    lowest = np.empty(batch)
    for b in range(batch):
        step = np.rint(np.diff(unary[b] * units, axis=-1)).reshape(-1, top)  # the cost of one more label
        arcs = []  # tails, heads, capacities
        for first, second, weights in borders:
            w = np.rint(weights[b].numpy() * units / top**2)
            for p, q in ((first, second), (second, first)):
                np.add.at(step, p.ravel(), -w.ravel()[:, None] * (top - 2 * np.arange(top) - 1))
                arcs += [(p * top + a, q * top + other, w) for a, other in product(range(top), repeat=2)]
        arcs += [(np.full_like(chain, source), chain, np.maximum(-step, 0))]
        arcs += [(chain, np.full_like(chain, sink), np.maximum(step, 0))]
        arcs += [(chain[:, 1:], chain[:, :-1], np.full(chain[:, 1:].shape, 1 + np.maximum(-step, 0).sum()))]
        tails, heads, capacities = (np.concatenate([np.ravel(arc[i]) for arc in arcs]) for i in range(3))
        graph = csr_array((capacities.astype(np.int32), (tails, heads)), (sink + 1, sink + 1))
        flow = maximum_flow(graph, source, sink).flow_value
        lowest[b] = unary[b, ..., 0].sum() + (np.minimum(step, 0).sum() + flow) / units
    return lowest


# --- the proof ---


def count_failures(kind, grid, n_labels, rng, batch=BATCH, device="cpu"):
    """The number of random instances in a batch that the solver does not solve to the minimum, on a device."""
    costs, lam, eta = random_instances(kind, grid, n_labels, rng, batch)
    unary = unary_costs(costs, lam, eta, n_labels)
    there = MaskCosts(*(term.to(device) for term in vars(costs).values()))
    mask = solve_mask(there, lam.to(device), eta, n_labels, "exact").cpu().numpy()
    labels = (mask * (n_labels - 1)).round().astype(np.int64)
    found, size = energies(costs, unary, labels), magnitude(costs, unary)
    if (grid, n_labels) in EXHAUSTED:
        return int((np.abs(found - lowest_by_exhaustion(costs, unary)) > 1e-12 * size).sum())
    units = 1.0 if kind == "zero" else 2e8 / size.max()
    rounding = (unary.size + 10 * n_labels**2 * unary[..., 0].size) / batch / units  # of all capacities to integers
    return int((np.abs(found - lowest_by_flow(costs, unary, units)) > rounding).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("instances", type=int, nargs="?", default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="that solves: the oracles stay on the CPU")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    sizes = list(EXHAUSTED | BY_FLOW)
    often = np.array(list((EXHAUSTED | BY_FLOW).values()))
    done = failures = 0
    with tqdm(total=options.instances, unit="instance") as bar:
        while done < options.instances:
            grid, n_labels = sizes[rng.choice(len(sizes), p=often / often.sum())]
            failures += count_failures(KINDS[done // BATCH % len(KINDS)], grid, n_labels, rng, device=options.device)
            done += BATCH
            bar.update(BATCH)
    print(f"{done} instances, {failures} not solved to the minimum")


if __name__ == "__main__":
    main()
