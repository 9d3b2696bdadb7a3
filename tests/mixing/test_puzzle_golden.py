"""Each step of Puzzle Mix against what the authors' release computed."""

import pytest
import torch
from exact_proof import energies, unary_costs

from puzzlemix.mixing.blocks import enlarge, pool_to_grid
from puzzlemix.mixing.costs import MaskCosts, block_saliency, cells_of_blocks, mask_costs
from puzzlemix.mixing.cut import solve_mask
from puzzlemix.mixing.puzzle import puzzle_mix
from puzzlemix.mixing.transport import transport_plan

CASES = [
    "mix_cifar100_b2",
    "mix_cifar100_b4",
    "mix_cifar100_b8",
    "mix_cifar100_b16",
    "mix_cifar100_b16_lam_small",
    "mix_cifar100_b16_lam_large",
    "mix_cifar100_b8_gamma0",
    "mix_cifar100_b8_labels2",
    "mix_cifar100_b8_labels4",
    "mix_cifar100_b4_adv",
    "mix_tiny_b2",
    "mix_tiny_b4",
    "mix_tiny_b8",
    "mix_tiny_b16",
    "mix_tiny_b8_notransport",
]


@pytest.fixture(params=CASES)
def case(request, golden):
    return golden(request.param)


def costs_of(case):
    meta = case["meta"]
    grid = (meta.block_num, meta.block_num)
    share, _ = block_saliency(case["saliency"], grid)
    partner = case["permutation"]
    cells = cells_of_blocks(case["images"], grid, meta.neigh_size)
    return mask_costs(cells, cells[partner], share, share[partner], meta.beta, meta.gamma)


def test_costs_and_border_weights(case):
    costs = costs_of(case)
    # The release keeps the label prior, of the order of 1 / n^2, outside these arrays, as we do.
    torch.testing.assert_close(costs.keep_first, case["cost_second"], atol=1e-6, rtol=0)
    torch.testing.assert_close(costs.take_second, case["cost_first"], atol=1e-6, rtol=0)
    torch.testing.assert_close(costs.weight_down, case["weight_x"], atol=1e-6, rtol=0)
    torch.testing.assert_close(costs.weight_right, case["weight_y"], atol=1e-6, rtol=0)


def test_swap_masks(case):
    meta = case["meta"]
    mask = solve_mask(costs_of(case), meta.lam, meta.eta, meta.n_labels, "swap")
    torch.testing.assert_close(mask, case["mask"])


def test_exact_masks_have_no_more_energy_than_the_releases(case):
    meta, costs = case["meta"], costs_of(case)
    lam = torch.full((len(case["mask"]),), meta.lam, dtype=torch.float64)
    unary = unary_costs(MaskCosts(*(term.double() for term in vars(costs).values())), lam, meta.eta, meta.n_labels)
    exact = solve_mask(costs, meta.lam, meta.eta, meta.n_labels, "exact")
    ours, theirs = (
        energies(costs, unary, (mask.numpy() * (meta.n_labels - 1)).round().astype("int64"))
        for mask in (exact, case["mask"])
    )
    assert (ours <= theirs + 1e-6).all()
    assert (ours >= 0.98 * theirs).all()  # the released search comes close
    assert (exact == case["mask"]).double().mean() > 0.9


@pytest.mark.parametrize("side", [0, 1])
def test_transport_at_visible_cells(case, side):
    if not case["meta"].transport:
        assert f"transport{side}_source" not in case
        return
    visible = case[f"transport{side}_mask"][:, 0] > 0  # stored as the weight of that side's own image
    plan = transport_plan(case[f"transport{side}_saliency"], visible, case["meta"].t_eps)
    wanted = case[f"transport{side}_source"]
    torch.testing.assert_close(plan[visible], wanted.view_as(plan)[visible])


def test_mixed_images_and_shares(case):
    meta = case["meta"]
    puzzle = puzzle_mix(
        case["images"],
        case["saliency"],
        case["permutation"],
        lam=meta.lam,
        blocks=meta.block_num,
        beta=meta.beta,
        gamma=meta.gamma,
        eta=meta.eta,
        neigh_size=meta.neigh_size,
        n_labels=meta.n_labels,
        transport=meta.transport,
        t_eps=meta.t_eps,
        t_size=meta.t_size if meta.t_size > 0 else None,
        noise=case.get("noise"),
        noisy=(bool(meta.adv_mask1), bool(meta.adv_mask2)),
        solver="swap",
    )
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (meta.mean, meta.std))
    torch.testing.assert_close((puzzle.images - mean) / std, case["mixed"], atol=1e-5, rtol=0)
    torch.testing.assert_close(puzzle.share, case["ratio"], atol=1e-5, rtol=0)
    assert not puzzle.uniform.any()


def test_the_mask_as_pixels_goes_there_and_back(case):
    size = case["images"].shape[-2:]
    mask = case["mask"]
    torch.testing.assert_close(pool_to_grid(enlarge(mask, size)[:, None], mask.shape[-2:])[:, 0], mask)
