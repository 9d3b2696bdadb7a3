"""What the benchmarks say, against plain loops; and the script, on a run trained by the other script."""

from itertools import product
from math import comb, log

import pytest
import torch
from conftest import TINY

from benchmarks import mixing, plans, solvers
from benchmarks.pairs import BLOCKS, Pairs
from puzzlemix.mixing.costs import MaskCosts
from puzzlemix.mixing.cut import solve_mask
from puzzlemix.mixing.puzzle import PuzzleParameters, puzzle_mix


def random_pairs(batch=20, size=32, power=4, **parameters):
    """Noise, and saliency that few pixels hold."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 1, size, size, generator=generator)
    saliency = torch.empty(batch, size, size).exponential_(generator=generator) ** power
    return Pairs(images, saliency, PuzzleParameters(**parameters))


def plain_energy(costs, z, lam, eta):
    """E(z) of one image with three labels, in Python's floats."""
    c1, c0, down, right = (c.double().tolist() for c in vars(costs).values())
    n_h, n_w, energy = len(z), len(z[0]), 0.0
    for y, x in product(range(n_h), range(n_w)):
        kept = round(2 * z[y][x])
        chance = comb(2, kept) * lam**kept * (1 - lam) ** (2 - kept)
        energy += z[y][x] * c1[y][x] + (1 - z[y][x]) * c0[y][x] - eta / (n_h * n_w) * log(chance + 1e-8)
        if y + 1 < n_h:
            energy += down[y][x] * (z[y + 1][x] - z[y][x]) ** 2
        if x + 1 < n_w:
            energy += right[y][x] * (z[y][x + 1] - z[y][x]) ** 2
    return energy


def test_energies_equal_a_loop_over_blocks_and_borders():
    pairs = random_pairs(batch=3)
    costs = pairs.mask_costs(pairs.shares((4, 3)))
    mask = torch.randint(3, (3, 4, 3)) / 2
    lam = torch.tensor([0.2, 0.5, 1.0])
    energies = solvers.energies(costs, mask, lam, 0.2, 3)
    for b in range(3):
        of_one = MaskCosts(*(c[b] for c in vars(costs).values()))
        assert float(energies[b]) == pytest.approx(plain_energy(of_one, mask[b].tolist(), float(lam[b]), 0.2), rel=1e-6)


def test_the_comparison_of_solvers_counts_other_masks_and_their_energy():
    pairs = random_pairs(batch=40)
    rows = {row[0]: row for row in solvers.compare([pairs])}
    assert list(rows) == [str(n) for n in BLOCKS]
    generator = torch.Generator().manual_seed(0)
    for n in BLOCKS:
        lam = torch.rand(40, generator=generator)
        costs = pairs.mask_costs(pairs.shares((n, n)))
        exact, swap = (solve_mask(costs, lam, 0.2, 3, name) for name in ("exact", "swap"))
        other, excess = 0, []
        for b in range(40):
            of_one = MaskCosts(*(c[b] for c in vars(costs).values()))
            least, found = (plain_energy(of_one, z[b].tolist(), float(lam[b]), 0.2) for z in (exact, swap))
            other += exact[b].tolist() != swap[b].tolist()
            excess.append(100 * (found / least - 1))
        _, masks, other_masks, other_labels, mean, _, largest, _ = rows[str(n)]
        assert int(masks) == 40
        assert float(other_masks) == pytest.approx(100 * other / 40)
        assert float(other_labels) == pytest.approx(100 * float((exact != swap).double().mean()), abs=6e-4)
        assert float(mean) == pytest.approx(sum(excess) / 40, abs=6e-4)
        assert float(largest) == pytest.approx(max(excess), abs=6e-4)
    assert float(rows["16"][2]) > 0, "a comparison of equal masks would prove nothing"


def test_the_cost_of_a_plan_equals_a_loop_over_visible_cells():
    generator = torch.Generator().manual_seed(0)
    saliency = torch.rand(2, 3, 4, generator=generator)
    visible = torch.rand(2, 3, 4, generator=generator) < 0.5
    sources = torch.randint(12, (2, 3, 4), generator=generator)
    costs = plans.plan_costs(saliency, visible, sources, t_eps=0.7)
    for b in range(2):
        expected = 0.0
        for y, x in product(range(3), range(4)):
            from_y, from_x = divmod(int(sources[b, y, x]), 4)
            if visible[b, y, x]:
                expected += 0.7 * ((from_y - y) ** 2 + (from_x - x) ** 2) / 9 - float(saliency[b, from_y, from_x])
        assert float(costs[b]) == pytest.approx(expected)


def test_the_comparison_of_plans_finds_that_the_exact_one_saves_most():
    rows = list(plans.compare([random_pairs(power=6)]))
    assert [row[:2] for row in rows] == [(str(t), str(n)) for t in plans.T_EPS for n in BLOCKS]
    saved = [(float(auction), float(exact)) for _, _, _, _, auction, exact, *_ in rows]
    assert all(0 <= auction <= exact for auction, exact in saved)
    assert any(auction < exact for auction, exact in saved)


def test_the_table_of_mixing_has_every_variant_and_its_times_add_up():
    rows = list(mixing.benchmark([random_pairs(batch=4, size=16)], repeats=1))
    assert [row[1:3] for row in rows] == [(str(n), name) for n in BLOCKS for name in ("exact", "swap")]
    for _, _, name, *steps, total, ratio in rows:
        assert sum(map(float, steps)) == pytest.approx(float(total), abs=0.05 * len(steps) + 0.06)
        assert name != "swap" or ratio == "1.0"


@pytest.mark.parametrize("n", BLOCKS)
@pytest.mark.parametrize(("t_size", "neigh_size"), [(None, 4), (4, 2)])
def test_what_is_timed_mixes_as_the_package_does(n, t_size, neigh_size):
    pairs = random_pairs(t_size=t_size, neigh_size=neigh_size, t_eps=0.1)
    for solver in mixing.SOLVERS:
        options = {**vars(pairs.parameters), "solver": solver}
        images = puzzle_mix(pairs.images, pairs.saliency, pairs.partner, lam=0.4, blocks=n, **options).images
        assert torch.equal(mixing.mix(solver, pairs, 0.4, (n, n))[0], images)


def test_the_script_measures_on_a_run(script, tmp_path, capsys):
    script("train", "mixup=input", f"results_dir={tmp_path}", "name=tiny", *TINY)
    checkpoint = f"--checkpoint={tmp_path}/tiny/seed0/checkpoints/last.pt"
    for what, header in (("solvers", solvers.HEADER), ("transport", plans.HEADER)):
        capsys.readouterr()
        script("benchmarks", what, checkpoint, "--batches=1")
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
        assert lines[0] == "| " + " | ".join(header) + " |"
        assert len(lines) == 2 + len(BLOCKS) * (1 if what == "solvers" else len(plans.T_EPS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["solvers", "--checkpoint=nowhere.pt"], r"^error: nowhere\.pt does not exist: give a checkpoint"),
        (["training", "--methods=puzlemix"], r"^error: unknown method 'puzlemix'; did you mean 'puzzlemix'\?$"),
        (["mixing", "--device=foo"], r"^error: unknown device 'foo'; valid: auto, cpu, cuda$"),
        (["mixing", "--repeats=0"], r"^error: --repeats and --batches must be at least 1$"),
        (["scale", "--picture=scale.doc"], r"^error: unknown ending of --picture '\.doc'"),
    ],
)
def test_what_cannot_be_measured_is_one_line_before_anything_is(script, arguments, message):
    with pytest.raises(SystemExit, match=message):
        script("benchmarks", *arguments)
