"""Both solvers where the mask is obvious, and the released one compared with all masks of small grids."""

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch

from puzzlemix.mixing.costs import MaskCosts, label_prior
from puzzlemix.mixing.cut import SOLVERS, solve_mask
from puzzlemix.mixing.puzzle import puzzle_mix
from puzzlemix.runtime.errors import InputError

INSTANCES = 25
# (grid, m): the largest has 19,683 masks
SIZES = [
    ((1, 1), 3), ((2, 2), 2), ((2, 2), 3), ((2, 2), 4), ((3, 3), 2), ((3, 3), 3), ((2, 4), 3), ((4, 2), 3), ((1, 6), 4),
]  # fmt: skip
ETA = 0.2
solvers = pytest.mark.parametrize("solver", SOLVERS)


def random_costs(grid, batch=INSTANCES, smoothness=0.02):
    """Terms of the same size as those of images: shares that sum to 1, weights between 0 and 2 beta'."""
    generator = np.random.default_rng(sum(grid))
    n_h, n_w = grid
    shares = generator.exponential(size=(2, batch, n_h, n_w)) ** 1.5
    keep_first, take_second = shares / shares.sum((-1, -2), keepdims=True)
    down = 2 * smoothness * generator.random((batch, n_h - 1, n_w))
    right = 2 * smoothness * generator.random((batch, n_h, n_w - 1))
    return MaskCosts(*(torch.from_numpy(c).float() for c in (keep_first, take_second, down, right)))


def energies(costs, masks, lam, n_labels, eta=ETA):
    """E(z) of every image with every mask (M, n_h, n_w): (B, M), in float64."""
    c1, c0, down, right = (
        c.double().flatten(1) for c in (costs.keep_first, costs.take_second, costs.weight_down, costs.weight_right)
    )
    cells = masks[0].numel()
    prior = label_prior(lam, n_labels, "cpu")[0, (masks * (n_labels - 1)).round().long()]
    z = masks.double().flatten(1)
    steps_down = (masks[:, 1:] - masks[:, :-1]).double().square().flatten(1)
    steps_right = (masks[:, :, 1:] - masks[:, :, :-1]).double().square().flatten(1)
    unary = c1 @ z.T + c0 @ (1 - z).T + eta / cells * prior.flatten(1).sum(1)
    return unary + down @ steps_down.T + right @ steps_right.T


def all_masks(grid, n_labels):
    values = torch.arange(n_labels) / (n_labels - 1)
    return values[torch.tensor(list(product(range(n_labels), repeat=grid[0] * grid[1])))].view(-1, *grid)


def rounding(grid):
    """The largest error of costs that are truncated to integers: 1 / (1000 n^2) for each block and border."""
    n_h, n_w = grid
    terms = n_h * n_w + (n_h - 1) * n_w + n_h * (n_w - 1)
    return terms / (1000 * n_h * n_w)


@pytest.mark.parametrize(("grid", "n_labels"), SIZES)
@pytest.mark.parametrize("lam", [0.001, 0.3, 0.5, 0.999])
def test_swap_finds_the_minimum_or_comes_close(grid, n_labels, lam):
    costs = random_costs(grid)
    masks = solve_mask(costs, lam, ETA, n_labels, "swap")
    assert masks.shape == (INSTANCES, *grid)
    assert set(masks.unique().tolist()) <= {v.item() for v in torch.arange(n_labels) / (n_labels - 1)}
    found = energies(costs, masks, lam, n_labels).diagonal()
    lowest = energies(costs, all_masks(grid, n_labels), lam, n_labels).min(1).values
    assert (found >= lowest - 1e-6).all()
    assert (found <= 1.01 * lowest + rounding(grid)).all()
    assert (found <= lowest + 1e-6).double().mean() >= 0.8


@solvers
def test_without_smoothness_each_block_shows_what_is_cheaper(solver):
    costs = random_costs((4, 4), smoothness=0)
    masks = solve_mask(costs, 0.5, 0.0, 2, solver)
    gap = costs.keep_first - costs.take_second
    clear = gap.abs() > 1 / 16000  # what integers can tell apart
    assert clear.double().mean() > 0.9
    assert torch.equal(masks[clear] == 1, gap[clear] < 0)


@solvers
def test_strong_smoothness_gives_one_label_to_all_blocks(solver):
    costs = random_costs((4, 4), smoothness=0)
    costs.weight_down.fill_(0.6)  # even a corner's two borders cost more than all saliency together
    costs.weight_right.fill_(0.6)
    masks = solve_mask(costs, 0.5, 0.0, 2, solver).flatten(1)
    assert (masks == masks[:, :1]).all()
    assert masks.unique().tolist() == [0, 1]


@pytest.mark.parametrize("weight", [2.501, 1e9])  # integers above 10,000, above int32
def test_a_border_weight_that_gco_cannot_take_is_an_error_that_names_beta(weight):
    """gco would end the whole process."""
    costs = random_costs((2, 2), batch=2)
    costs.weight_right[1, 1, 0] = 2.499
    assert solve_mask(costs, 0.5, ETA, 3, "swap").shape == (2, 2, 2)
    costs.weight_right[1, 1, 0] = weight
    with pytest.raises(InputError, match=r"beta is too large .* 2 x 2 blocks"):
        solve_mask(costs, 0.5, ETA, 3, "swap")


@solvers
@pytest.mark.parametrize("value", [torch.inf, torch.nan])
@pytest.mark.parametrize("term", ["keep_first", "weight_right"])
def test_costs_that_are_not_finite_are_an_error_that_names_the_images(term, value, solver):
    costs = random_costs((2, 2), batch=2)
    getattr(costs, term)[1, 1, 0] = value
    with pytest.raises(InputError, match="not finite: the images hold values that are not numbers"):
        solve_mask(costs, 0.5, ETA, 3, solver)


@solvers
@pytest.mark.parametrize(
    ("lam", "mode"), [(0.0, 0.0), (0.05, 0.0), (0.3, 0.25), (0.5, 0.5), (0.7, 0.75), (0.95, 1.0), (1.0, 1.0)]
)
@pytest.mark.parametrize(("n_h", "n_w"), [(3, 5), (1, 1)])
def test_prior_alone_gives_the_binomials_most_likely_value(n_h, n_w, lam, mode, solver):
    even = torch.full((1, n_h, n_w), 1 / (n_h * n_w))
    costs = MaskCosts(even, even.clone(), torch.zeros(1, n_h - 1, n_w), torch.zeros(1, n_h, n_w - 1))
    masks = solve_mask(costs, lam, ETA, 5, solver)
    torch.testing.assert_close(masks, torch.full((1, n_h, n_w), mode))


@solvers
@pytest.mark.parametrize("n_labels", [2, 3, 4])
@pytest.mark.parametrize("options", [{"blocks": 1}, {"blocks": 4, "beta": 0.0}, {"blocks": (1, 3), "beta": 0.0}])
def test_pairs_of_equal_saliency_show_one_image_alone_where_lam_asks_for_it(options, n_labels, solver):
    """All labels but one are then equally likely: at lam 0 no node of the graph has an excess."""
    images, saliency = torch.rand(2, 3, 8, 8), torch.ones(2, 8, 8)
    for lam in (0.0, 1.0):
        puzzle = puzzle_mix(
            images, saliency, torch.tensor([1, 0]), lam=lam, n_labels=n_labels, solver=solver, **options
        )
        assert puzzle.share.tolist() == [lam, lam]


def test_unknown_solver_names_the_nearest():
    with pytest.raises(InputError, match=r"unknown solver 'swop'.*'swap'"):
        solve_mask(random_costs((2, 2), batch=1), 0.5, ETA, 3, "swop")


SOLVE = """
import sys
import numpy as np
import torch
from puzzlemix.mixing.costs import MaskCosts
from puzzlemix.mixing.cut import solve_mask

def solve():
    costs = MaskCosts(torch.rand(1, 2, 2), torch.rand(1, 2, 2), torch.zeros(1, 1, 2), torch.zeros(1, 2, 1))
    return solve_mask(costs, 0.5, 0.2, 3, "swap")
"""


def run_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_gco_leaves_numpy_without_its_aliases():
    """gco sets np.int and np.float, which numpy removed on purpose, for the whole process."""
    aliases = "{'int', 'float', 'bool'} & set(vars(np))"
    code = SOLVE + f"before = {aliases}; solve(); assert 'gco' in sys.modules; print({aliases} == before); solve()"
    assert run_python(code) == "True"


def test_a_callers_own_alias_in_numpy_survives():
    assert run_python(SOLVE + "np.int = 'mine'; solve(); print(np.int)") == "mine"


def test_missing_gco_names_the_package_to_install():
    block = "sys.modules['gco'] = None"  # makes any import of it fail
    code = f"{SOLVE}\n{block}\ntry:\n    solve()\nexcept ValueError as error:\n    print(type(error).__name__, error)"
    assert run_python(code) == 'InputError solver="swap" needs the graph-cut wrapper: pip install gco-wrapper'
