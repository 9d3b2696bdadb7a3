"""The exact solver: a part of `exact_proof.py`, what the result is, and what it refuses."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from exact_proof import BY_FLOW, EXHAUSTED, KINDS, count_failures, energies, random_instances, unary_costs

from puzzlemix.mixing.costs import MaskCosts
from puzzlemix.mixing.cut import solve_mask
from puzzlemix.runtime.errors import InputError


@pytest.mark.parametrize("kind", KINDS)
def test_no_mask_has_a_lower_energy(kind):
    rng = np.random.default_rng(KINDS.index(kind))
    for grid, n_labels in EXHAUSTED:
        few = 2 if (grid, n_labels) == ((3, 3), 4) else 20
        assert count_failures(kind, grid, n_labels, rng, batch=few) == 0, (grid, n_labels)


@pytest.mark.parametrize("kind", KINDS)
def test_the_energy_is_that_of_the_maximum_flow(kind):
    rng = np.random.default_rng(100 + KINDS.index(kind))
    for grid, n_labels in BY_FLOW:
        assert count_failures(kind, grid, n_labels, rng, batch=4) == 0, (grid, n_labels)


@pytest.mark.parametrize("oracle", ["exhaustion", "flow"])
def test_the_oracles_notice_a_mask_that_is_not_the_minimum(oracle, monkeypatch):
    """A proof that cannot fail proves nothing, so here one block of each mask is flipped."""

    def spoilt(*arguments):
        mask = solve_mask(*arguments)
        mask[:, 0, 0] = 1 - mask[:, 0, 0]
        return mask

    monkeypatch.setattr("exact_proof.solve_mask", spoilt)
    grid, n_labels = ((3, 3), 2) if oracle == "exhaustion" else ((8, 8), 2)
    assert count_failures("images", grid, n_labels, np.random.default_rng(0)) > 40


def test_swap_is_never_better_and_now_and_then_worse():
    costs, _, _ = random_instances("images", (16, 16), 3, np.random.default_rng(5))
    lam, eta = torch.full((50,), 0.4, dtype=torch.float64), 0.2
    unary = unary_costs(costs, lam, eta, 3)
    exact, swap = (
        energies(costs, unary, (solve_mask(costs, 0.4, eta, 3, solver).numpy() * 2).astype(np.int64))
        for solver in ("exact", "swap")
    )
    assert (exact <= swap + 1e-12).all()
    assert (exact < swap - 1e-6).any()


@pytest.mark.parametrize(("cores", "images"), [(1, 7), (2, 7), (2, 1), (3, 100)])
def test_every_image_is_solved_on_any_number_of_cores(cores, images, monkeypatch):
    monkeypatch.setattr("puzzlemix.mixing.parallel.STEPS_WORTH_THREADS", 0)
    costs, lam, eta = random_instances("images", (4, 4), 3, np.random.default_rng(0), batch=100)
    some = MaskCosts(*(term[:images] for term in vars(costs).values()))
    before = torch.get_num_threads()
    wanted = solve_mask(costs, lam, eta, 3, "exact")[:images]
    torch.set_num_threads(cores)
    try:
        assert torch.equal(solve_mask(some, lam[:images], eta, 3, "exact"), wanted)
    finally:
        torch.set_num_threads(before)


def test_several_threads_may_solve_at_once(monkeypatch):
    monkeypatch.setattr("puzzlemix.mixing.parallel.STEPS_WORTH_THREADS", 0)
    costs, lam, eta = random_instances("images", (8, 8), 3, np.random.default_rng(0))
    wanted = solve_mask(costs, lam, eta, 3, "exact")
    with ThreadPoolExecutor(4) as threads:
        for mask in threads.map(lambda _: solve_mask(costs, lam, eta, 3, "exact"), range(20)):
            assert torch.equal(mask, wanted)


def test_masks_come_in_the_costs_dtype_and_leave_the_costs_alone():
    costs, lam, eta = random_instances("images", (4, 4), 4, np.random.default_rng(0))
    before = [term.clone() for term in vars(costs).values()]
    mask = solve_mask(costs, lam, eta, 4, "exact")
    assert mask.dtype == torch.float64
    assert set(mask.unique().tolist()) <= {0, 1 / 3, 2 / 3, 1}
    assert all(torch.equal(term, was) for term, was in zip(vars(costs).values(), before, strict=True))
    single = MaskCosts(*(term.float() for term in before))
    assert solve_mask(single, lam, eta, 4, "exact").dtype == torch.float32


def test_costs_may_be_views_of_other_tensors():
    costs, lam, eta = random_instances("images", (4, 4), 3, np.random.default_rng(0))
    wanted = solve_mask(costs, lam, eta, 3, "exact")
    views = MaskCosts(*(term.transpose(1, 2).contiguous().transpose(1, 2) for term in vars(costs).values()))
    assert torch.equal(solve_mask(views, lam, eta, 3, "exact"), wanted)


def test_a_negative_weight_is_refused_but_for_rounding():
    costs, lam, eta = random_instances("gamma 0", (4, 4), 3, np.random.default_rng(0))
    costs.weight_down[3, 1, 2] = -1e-9
    solve_mask(costs, lam, eta, 3, "exact")
    costs.weight_down[3, 1, 2] = -1e-3
    with pytest.raises(InputError, match=r"weights must be 0 or more, not -0\.001: gamma must lie in \[0, 1\]"):
        solve_mask(costs, lam, eta, 3, "exact")


def test_without_numba_its_error_names_it():
    code = """
import sys
sys.modules["numba"] = None  # makes any import of it fail
import torch
import puzzlemix
try:
    puzzlemix.puzzle_mix(torch.rand(2, 3, 8, 8), torch.rand(2, 8, 8), torch.tensor([1, 0]), lam=0.5, blocks=2)
except ValueError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "InputError mixing on a CPU needs numba: pip install numba\n", done.stderr
