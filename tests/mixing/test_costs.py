"""The energy's terms against plain loops over blocks and borders, written from `E(z)`."""

import pytest
import torch

from puzzlemix.mixing.costs import block_saliency, cells_of_blocks, label_prior, mask_costs

# (channels, (height, width), grid, neigh_size)
SHAPES = [
    (3, (16, 16), (4, 4), 4),
    (1, (16, 16), (4, 4), 2),
    (3, (16, 24), (2, 6), 4),
    (2, (24, 8), (6, 2), 2),
    (4, (8, 8), (8, 8), 4),
    (1, (13, 17), (3, 4), 2),
    (3, (10, 11), (4, 3), 1),
    (3, (12, 9), (1, 3), 3),
    (3, (20, 20), (4, 4), 2),
]
shapes = pytest.mark.parametrize(("channels", "size", "grid", "neigh_size"), SHAPES)
BETA, GAMMA = 1.2, 0.5


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def random_pair(channels, size, grid, batch=2):
    """x0, x1, u0, u1 in float64."""
    images = torch.rand(2, batch, channels, *size, dtype=torch.float64)
    saliency = torch.rand(2, batch, *grid, dtype=torch.float64)
    return *images, *(saliency / saliency.sum((-1, -2), keepdim=True))


def costs_of(x0, x1, u0, u1, beta, gamma, neigh_size):
    cells = (cells_of_blocks(x, tuple(u0.shape[-2:]), neigh_size) for x in (x0, x1))
    return mask_costs(*cells, u0, u1, beta, gamma)


def borders(grid):
    """Every pair of neighbours, the upper or left block first, and whether the second lies below it."""
    n_h, n_w = grid
    down = [((i, j), (i + 1, j), True) for i in range(n_h - 1) for j in range(n_w)]
    return down + [((i, j), (i, j + 1), False) for i in range(n_h) for j in range(n_w - 1)]


def border_cells(image, block, grid, neigh_size, axis, last):
    """The pooled cells of `block` along one border, a list of (C,) means: its last row or column, or its first."""
    ranges = []
    for side in (0, 1):
        length, n = image.shape[1 + side], grid[side]
        block_length = length // n
        k = block_length // min(neigh_size, block_length)  # pooled cells along this side of a block
        mine = range(block[side] * k, (block[side] + 1) * k)
        if side == axis:
            mine = [mine[-1] if last else mine[0]]
        ranges.append([slice(i * length // (n * k), (i + 1) * length // (n * k)) for i in mine])
    return [image[:, y, x].mean((1, 2)) for y in ranges[0] for x in ranges[1]]


def border_difference(first_side, second_side, p, q, below, grid, neigh_size):
    """d(p, q) where the image `first_side` supplies p and `second_side` q, each (C, H, W)."""
    axis = 0 if below else 1
    p_cells = border_cells(first_side, p, grid, neigh_size, axis, last=True)
    q_cells = border_cells(second_side, q, grid, neigh_size, axis, last=False)
    return float(torch.stack([(a - b).abs() for a, b in zip(p_cells, q_cells, strict=True)]).mean())


def plain_costs(x0, x1, u0, u1, beta, gamma, neigh_size):
    """c1, c0, w down and w right of one pair, images (C, H, W) and shares (n_h, n_w), as loops over borders."""
    grid = tuple(u0.shape)
    smooth = beta / (16 * (grid[0] * grid[1]) ** 0.5)  # for n x n blocks beta / (16 n)
    c1, c0 = u1.clone(), u0.clone()
    down, right = u0.new_zeros(grid[0] - 1, grid[1]), u0.new_zeros(grid[0], grid[1] - 1)
    for p, q, below in borders(grid):
        d = {
            (a, b): border_difference((x0, x1)[a], (x0, x1)[b], p, q, below, grid, neigh_size)
            for a in (0, 1)
            for b in (0, 1)
        }
        c1[p] += smooth * gamma / 2 * (d[0, 0] + d[0, 1])
        c1[q] += smooth * gamma / 2 * (d[0, 0] + d[1, 0])
        c0[p] += smooth * gamma / 2 * (d[1, 0] + d[1, 1])
        c0[q] += smooth * gamma / 2 * (d[0, 1] + d[1, 1])
        weight = smooth + smooth * gamma / 2 * (d[0, 1] + d[1, 0] - d[0, 0] - d[1, 1])
        (down if below else right)[p] = weight
    return c1, c0, down, right


def energy(costs, mask, b):
    """E(z) of image b without the prior."""
    z = mask
    unary = (z * costs.keep_first[b] + (1 - z) * costs.take_second[b]).sum()
    down = (costs.weight_down[b] * (z[1:] - z[:-1]) ** 2).sum()
    return float(unary + down + (costs.weight_right[b] * (z[:, 1:] - z[:, :-1]) ** 2).sum())


@shapes
def test_costs_and_weights_equal_a_loop_over_borders(channels, size, grid, neigh_size):
    x0, x1, u0, u1 = random_pair(channels, size, grid)
    costs = costs_of(x0, x1, u0, u1, BETA, GAMMA, neigh_size)
    for b in range(len(x0)):
        keep_first, take_second, down, right = plain_costs(x0[b], x1[b], u0[b], u1[b], BETA, GAMMA, neigh_size)
        torch.testing.assert_close(costs.keep_first[b], keep_first)
        torch.testing.assert_close(costs.take_second[b], take_second)
        torch.testing.assert_close(costs.weight_down[b], down)
        torch.testing.assert_close(costs.weight_right[b], right)


@shapes
def test_energy_of_a_binary_mask_is_covered_saliency_and_label_and_pixel_steps(channels, size, grid, neigh_size):
    """The paper's objective, evaluated on the mask itself; costs and weights may differ from it by a constant."""
    x0, x1, u0, u1 = random_pair(channels, size, grid, batch=1)
    costs = costs_of(x0, x1, u0, u1, BETA, GAMMA, neigh_size)
    smooth = BETA / (16 * (grid[0] * grid[1]) ** 0.5)

    def objective(mask):
        value = float((mask * u1[0] + (1 - mask) * u0[0]).sum())
        for p, q, below in borders(grid):
            shown = [(x0, x1)[0 if mask[block] == 1 else 1][0] for block in (p, q)]
            step = border_difference(*shown, p, q, below, grid, neigh_size)
            value += smooth * (mask[p] != mask[q]).item() + smooth * GAMMA * step
        return value

    masks = [torch.ones(grid, dtype=torch.float64), *torch.randint(2, (10, *grid)).double()]
    constants = [energy(costs, mask, 0) - objective(mask) for mask in masks]
    assert constants == pytest.approx([constants[0]] * len(masks), abs=1e-12)
    assert len({round(objective(mask), 6) for mask in masks}) > 1


def test_costs_do_not_change_the_shares():
    x0, x1, u0, u1 = random_pair(3, (8, 8), (2, 2))
    before = u0.clone(), u1.clone()
    costs_of(x0, x1, u0, u1, BETA, GAMMA, 4)
    assert torch.equal(u0, before[0])
    assert torch.equal(u1, before[1])


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_weights_are_never_negative(gamma):
    x0, x1 = torch.rand(2, 50, 1, 8, 8).round()  # black and white: steps as large as they get
    share = torch.full((50, 4, 4), 1 / 16)
    costs = costs_of(x0, x1, share, share, BETA, gamma, 2)
    assert costs.weight_down.min() >= -1e-8
    assert costs.weight_right.min() >= -1e-8


def test_gamma_one_lets_a_weight_vanish_where_only_mixed_borders_are_smooth():
    rows = torch.arange(8).view(1, 1, 8, 1).expand(1, 1, 8, 8)
    first = (rows // 4 % 2).float()  # black above white
    second = 1 - first  # white above black: either image steps by 1, a change of image by 0
    share = torch.full((1, 2, 2), 1 / 4)
    assert costs_of(first, second, share, share, BETA, 1.0, 4).weight_down.abs().max() < 1e-8


@pytest.mark.parametrize(("size", "grid"), [((8, 8), (2, 2)), ((12, 6), (4, 3)), ((10, 7), (3, 4))])
def test_block_saliency_is_each_blocks_share(size, grid):
    saliency = torch.rand(3, *size, dtype=torch.float64) ** 4
    share, uniform = block_saliency(saliency, grid)
    wanted = torch.empty_like(share)
    for i in range(grid[0]):
        for j in range(grid[1]):
            rows = slice(i * size[0] // grid[0], (i + 1) * size[0] // grid[0])
            columns = slice(j * size[1] // grid[1], (j + 1) * size[1] // grid[1])
            wanted[:, i, j] = saliency[:, rows, columns].mean((1, 2))
    torch.testing.assert_close(share, wanted / wanted.sum((1, 2), keepdim=True))
    torch.testing.assert_close(share.sum((1, 2)), torch.ones(3, dtype=torch.float64))
    assert not uniform.any()


def test_block_saliency_ignores_the_scale():
    saliency = torch.rand(2, 8, 8)
    torch.testing.assert_close(block_saliency(1e-6 * saliency, (4, 4))[0], block_saliency(saliency, (4, 4))[0])


@pytest.mark.parametrize("value", [0.0, torch.nan, torch.inf])
def test_unusable_saliency_counts_as_uniform_for_that_image_alone(value):
    saliency = torch.rand(3, 8, 8)
    usable = block_saliency(saliency, (2, 4))[0]
    saliency[1] = 0
    saliency[1, 3, 5] = value
    share, uniform = block_saliency(saliency, (2, 4))
    assert uniform.tolist() == [False, True, False]
    torch.testing.assert_close(share[1], torch.full((2, 4), 1 / 8))
    torch.testing.assert_close(share[[0, 2]], usable[[0, 2]])


@pytest.mark.parametrize("n_labels", [2, 3, 5])
@pytest.mark.parametrize("lam", [0.1, 0.5, 0.83])
def test_prior_is_minus_the_log_of_a_binomial(lam, n_labels):
    """The binomial as the sum of m - 1 coins, each adding 1/(m - 1) to z with probability lam; from z = 0 up."""
    chance = torch.ones(1, dtype=torch.float64)
    for _ in range(n_labels - 1):
        nothing = torch.zeros(1, dtype=torch.float64)
        chance = lam * torch.cat([nothing, chance]) + (1 - lam) * torch.cat([chance, nothing])
    torch.testing.assert_close(label_prior(lam, n_labels, "cpu")[0], -chance.log(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_prior_at_the_ends_of_lam_is_finite_and_prefers_that_image(lam):
    prior = label_prior(lam, 3, "cpu")[0].tolist()
    assert abs(prior[-1 if lam == 1 else 0]) < 1e-6
    assert sorted(prior)[1] == pytest.approx(18.42, abs=0.01)  # -log(1e-8)
