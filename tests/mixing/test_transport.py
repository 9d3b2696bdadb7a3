"""Transport against the auction as the paper describes it: dense costs, and every source bids in every round."""

import subprocess
import sys
from itertools import permutations

import pytest
import torch
from test_one_file import one_file

from puzzlemix.mixing.transport import transport_grid, transport_plan

# (grid, t_eps, power): the higher the power, the fewer cells hold the saliency; the lower t_eps, the further they move.
CASES = [
    ((2, 2), 0.1, 1),
    ((4, 4), 0.02, 2),
    ((8, 8), 0.03, 3),
    ((8, 8), 0.8, 3),
    ((12, 12), 0.005, 2),
    ((3, 6), 0.02, 2),
    ((8, 4), 0.01, 3),
    ((1, 5), 0.05, 2),
]
cases = pytest.mark.parametrize(("grid", "t_eps", "power"), CASES)


def random_case(grid, power, batch=6):
    """Shares with sharp peaks, in float64, and a mask that hides about two thirds of the cells."""
    generator = torch.Generator().manual_seed(sum(grid))
    saliency = torch.empty(batch, *grid, dtype=torch.float64).exponential_(generator=generator) ** power
    visible = torch.rand(batch, *grid, generator=generator) < 0.35
    return saliency / saliency.sum((1, 2), keepdim=True), visible


def plain_plan(saliency, visible, t_eps):
    """One image's auction as loops; for each target the source that won it in the last round, or None.

    Also how many bids lost in all.
    """
    n_h, n_w = saliency.shape
    n = max(n_h, n_w)
    position = [(i, j) for i in range(n_h) for j in range(n_w)]
    cells = range(len(position))
    s, v = saliency.flatten().tolist(), visible.flatten().tolist()
    cost = []
    for i in cells:
        squared = [(position[i][0] - y) ** 2 + (position[i][1] - x) ** 2 for y, x in position]
        cost.append([t_eps * squared[j] / max(n - 1, 1) ** 2 - s[i] * v[j] for j in cells])
    lost = 0
    for _ in range(n):
        winner = dict.fromkeys(cells)
        bids = [min(cells, key=cost[i].__getitem__) for i in cells]  # the first of equals
        for i, j in enumerate(bids):
            if winner[j] is None or cost[i][j] < cost[winner[j]][j]:
                winner[j] = i
        for i, j in enumerate(bids):
            if winner[j] != i:
                cost[i][j] += 1
                lost += 1
    return [winner[j] for j in cells], lost


@cases
def test_plan_equals_the_auction_as_loops(grid, t_eps, power):
    saliency, visible = random_case(grid, power)
    plan = transport_plan(saliency, visible, t_eps).flatten(1).tolist()
    for b in range(len(saliency)):
        winners, _ = plain_plan(saliency[b], visible[b], t_eps)
        assert plan[b] == [target if source is None else source for target, source in enumerate(winners)]


@pytest.mark.parametrize(("grid", "t_eps", "power"), [((8, 8), 0.03, 3), ((12, 12), 0.005, 2), ((3, 6), 0.02, 2)])
def test_these_cases_have_many_moves_and_contests(grid, t_eps, power):
    saliency, visible = random_case(grid, power)
    plan = transport_plan(saliency, visible, t_eps)
    itself = torch.arange(grid[0] * grid[1]).view(grid)
    assert (plan != itself)[visible].double().mean() > 0.3
    assert sum(plain_plan(s, v, t_eps)[1] for s, v in zip(saliency, visible, strict=True)) > len(saliency) * sum(grid)


@cases
def test_no_source_appears_at_two_visible_targets(grid, t_eps, power):
    """So each was really won: a target that names itself without a bid could repeat a source that moved away."""
    saliency, visible = random_case(grid, power)
    plan = transport_plan(saliency, visible, t_eps)
    for b in range(len(saliency)):
        shown = plan[b][visible[b]]
        assert len(shown.unique()) == len(shown)


@cases
def test_a_visible_cell_never_gets_less_salient(grid, t_eps, power):
    saliency, visible = random_case(grid, power)
    plan = transport_plan(saliency, visible, t_eps)
    moved = saliency.flatten(1).gather(1, plan.flatten(1)).view_as(saliency)
    assert (moved >= saliency)[visible].all()


@pytest.mark.parametrize("shown", [True, False])
def test_nothing_moves_where_all_or_nothing_is_visible(shown):
    saliency, _ = random_case((6, 4), 3)
    plan = transport_plan(saliency, torch.full(saliency.shape, shown), 0.01)
    assert torch.equal(plan.flatten(1), torch.arange(24).expand(len(saliency), -1))


def test_a_move_costlier_than_the_saliency_is_not_made():
    saliency = torch.tensor([[[0.1, 0.9]]])
    visible = torch.tensor([[[True, False]]])
    assert transport_plan(saliency, visible, t_eps=0.91).flatten().tolist() == [0, 1]
    # The move pays for cell 1, and cell 0 gives way.
    assert transport_plan(saliency, visible, t_eps=0.75).flatten().tolist() == [1, 0]


def test_a_target_that_nobody_won_names_itself():
    """By hand: cell 3 takes cell 0, the only visible one; cell 0 bids on cell 1 and loses; nobody bids on cell 3."""
    saliency = torch.tensor([[[0.05, 0.05], [0.05, 0.85]]])
    visible = torch.tensor([[[True, False], [False, False]]])
    assert transport_plan(saliency, visible, t_eps=0.1).flatten().tolist() == [3, 1, 2, 3]


def test_ties_go_to_the_lowest_index():
    saliency = torch.tensor([[[0.4, 0.1, 0.4]]])  # both ends bid the same on the middle
    visible = torch.tensor([[[False, True, False]]])
    assert transport_plan(saliency, visible, t_eps=0.1).flatten()[1] == 0


def test_more_than_a_thousand_cells():
    saliency, visible = random_case((33, 35), 4, batch=1)
    wanted = one_file.plan(saliency[0].numpy(), visible[0].numpy(), 0.05)
    assert torch.equal(transport_plan(saliency, visible, 0.05)[0], torch.from_numpy(wanted))


def cost_of(plan, saliency, visible, t_eps):
    """The total cost of the sources of the visible targets, for one image, by hand."""
    n = max(plan.shape)
    total = 0.0
    for y, x in visible.nonzero().tolist():
        row, column = divmod(int(plan[y, x]), plan.shape[1])
        total += t_eps * ((row - y) ** 2 + (column - x) ** 2) / max(n - 1, 1) ** 2 - float(saliency[row, column])
    return total


@pytest.mark.parametrize("grid", [(2, 2), (2, 3), (1, 5), (3, 2)])
@pytest.mark.parametrize("t_eps", [0.05, 0.8])
def test_exact_has_the_least_cost_of_all_assignments(grid, t_eps):
    saliency, visible = random_case(grid, 2)
    plan = transport_plan(saliency, visible, t_eps, "exact")
    for b in range(len(saliency)):
        costs = [
            cost_of(torch.tensor(order).view(grid), saliency[b], visible[b], t_eps)
            for order in permutations(range(grid[0] * grid[1]))
        ]
        assert cost_of(plan[b], saliency[b], visible[b], t_eps) == pytest.approx(min(costs), abs=1e-12)
        shown = plan[b][visible[b]]
        assert len(shown.unique()) == len(shown)


@cases
def test_the_auction_costs_no_less_than_exact(grid, t_eps, power):
    saliency, visible = random_case(grid, power)
    exact, auction = (transport_plan(saliency, visible, t_eps, how) for how in ("exact", True))
    for b in range(len(saliency)):
        least, found = (cost_of(plan[b], saliency[b], visible[b], t_eps) for plan in (exact, auction))
        assert least <= found + 1e-12


def test_exact_without_scipy_names_it():
    code = """
import sys
sys.modules["scipy.optimize"] = None  # makes any import of it fail
import torch
import puzzlemix
images, saliency, partner = torch.rand(2, 3, 8, 8), torch.rand(2, 8, 8), torch.tensor([1, 0])
try:
    puzzlemix.puzzle_mix(images, saliency, partner, lam=0.5, blocks=2, transport="exact")
except ValueError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == 'InputError transport="exact" needs SciPy: pip install scipy\n', done.stderr


@pytest.mark.parametrize("how", [True, "exact"])
def test_inputs_stay_as_they_were(how):
    saliency, visible = random_case((4, 4), 2)
    before = saliency.clone(), visible.clone()
    transport_plan(saliency, visible, 0.02, how)
    assert torch.equal(saliency, before[0])
    assert torch.equal(visible, before[1])


@pytest.mark.parametrize(
    ("mask_grid", "size", "t_size", "wanted"),
    [
        ((2, 2), (32, 32), 4, (8, 8)),  # CIFAR
        ((8, 8), (32, 32), 4, (8, 8)),
        ((16, 16), (32, 32), 4, (16, 16)),
        ((4, 4), (64, 64), 4, (16, 16)),  # Tiny-ImageNet
        ((2, 4), (32, 48), 4, (8, 12)),
        ((2, 16), (32, 32), 4, (8, 16)),
        ((4, 4), (30, 21), 4, (4, 4)),
        ((3, 2), (32, 21), 4, (6, 4)),
        ((2, 2), (3, 3), 4, (2, 2)),
        ((4, 8), (32, 32), None, (4, 8)),
    ],
)
def test_blocks_larger_than_t_size_move_on_a_finer_grid(mask_grid, size, t_size, wanted):
    assert transport_grid(mask_grid, size, t_size) == wanted


@pytest.mark.parametrize("t_size", [1, 2, 3, 4, 7])
def test_a_cell_that_moves_lies_in_one_block_of_the_mask(t_size):
    """So that it is either shown or not, also where blocks do not divide the pixels."""
    for length in range(1, 70):
        for blocks in range(1, length + 1):
            ((cells, _),) = {transport_grid((blocks, 1), (length, length), t_size)}
            edges = {i * length // cells for i in range(cells + 1)}
            assert len(edges) == cells + 1
            assert edges >= {i * length // blocks for i in range(blocks + 1)}
