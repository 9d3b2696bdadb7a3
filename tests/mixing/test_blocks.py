"""Grids of cells against plain loops over cells and pixels."""

from itertools import pairwise

import pytest
import torch

from puzzlemix.mixing.blocks import cell_edges, enlarge, move_cells, pool_to_grid, resample_grid

# (channels, (height, width), grid): divisible, not divisible, one cell, one pixel a cell, rectangular in both ways.
SHAPES = [
    (3, (8, 8), (2, 2)),
    (1, (12, 8), (3, 4)),
    (4, (10, 13), (3, 5)),
    (2, (7, 16), (4, 16)),
    (3, (9, 5), (1, 1)),
    (1, (5, 6), (5, 6)),
]
shapes = pytest.mark.parametrize(("channels", "size", "grid"), SHAPES)


def cells(size, grid):
    """Each cell's rows and columns, as slices, row by row."""
    (height, width), (n_h, n_w) = size, grid
    return [
        (slice(i * height // n_h, (i + 1) * height // n_h), slice(j * width // n_w, (j + 1) * width // n_w))
        for i in range(n_h)
        for j in range(n_w)
    ]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(("length", "n"), [(32, 8), (30, 4), (13, 5), (7, 7), (5, 1)])
def test_cells_cover_a_side_in_order_and_differ_by_a_pixel_at_most(length, n):
    edges = cell_edges(length, n)
    sizes = [b - a for a, b in pairwise(edges)]
    assert (edges[0], edges[-1], len(sizes)) == (0, length, n)
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) == (0 if length % n == 0 else 1)


@shapes
def test_pooling_takes_the_mean_of_each_cell(channels, size, grid):
    pixels = torch.rand(2, channels, *size, dtype=torch.float64)
    wanted = torch.stack([pixels[:, :, y, x].mean((2, 3)) for y, x in cells(size, grid)], dim=-1)
    torch.testing.assert_close(pool_to_grid(pixels, grid), wanted.view(2, channels, *grid))


@shapes
def test_enlarging_fills_each_cell_with_its_value(channels, size, grid):
    values = torch.rand(2, channels, *grid)
    wanted = torch.full((2, channels, *size), torch.nan)
    for cell, (y, x) in enumerate(cells(size, grid)):
        wanted[:, :, y, x] = values.flatten(2)[:, :, cell, None, None]
    torch.testing.assert_close(enlarge(values, size), wanted, atol=0, rtol=0)


@shapes
def test_pooling_undoes_enlarging(channels, size, grid):
    values = torch.rand(2, channels, *grid)
    torch.testing.assert_close(pool_to_grid(enlarge(values, size), grid), values)


@pytest.mark.parametrize(
    ("grid", "to"), [((2, 2), (8, 8)), ((2, 4), (6, 4)), ((4, 4), (7, 9)), ((5, 3), (8, 7)), ((1, 1), (3, 2))]
)
def test_resampling_is_nearest_neighbour_by_cell_centres(grid, to):
    values = torch.rand(3, *grid, dtype=torch.float64)
    wanted = torch.nn.functional.interpolate(values[None], to, mode="nearest-exact")[0]
    torch.testing.assert_close(resample_grid(values, to), wanted, atol=0, rtol=0)


@shapes
def test_moving_copies_each_source_cell_into_its_target(channels, size, grid):
    images = torch.rand(3, channels, *size)
    source = torch.randint(grid[0] * grid[1], (3, *grid))
    wanted = torch.full_like(images, torch.nan)
    slices = cells(size, grid)
    for b in range(3):
        for target, (ys, xs) in enumerate(slices):
            from_y, from_x = slices[source[b].flatten()[target]]
            for y in range(ys.start, ys.stop):
                for x in range(xs.start, xs.stop):
                    sy = min(from_y.start + y - ys.start, from_y.stop - 1)  # a smaller source repeats its last row
                    sx = min(from_x.start + x - xs.start, from_x.stop - 1)
                    wanted[b, :, y, x] = images[b, :, sy, sx]
    torch.testing.assert_close(move_cells(images, source), wanted, atol=0, rtol=0)


@shapes
def test_a_plan_of_every_cell_to_itself_changes_nothing(channels, size, grid):
    images = torch.rand(2, channels, *size)
    itself = torch.arange(grid[0] * grid[1]).view(1, *grid).expand(2, -1, -1)
    moved = move_cells(images, itself)
    torch.testing.assert_close(moved, images, atol=0, rtol=0)
    assert moved.data_ptr() != images.data_ptr()


def test_moving_works_on_images_that_are_not_contiguous():
    images = torch.rand(2, 6, 9, 3).permute(0, 3, 1, 2)
    source = torch.randint(6, (2, 2, 3))
    torch.testing.assert_close(move_cells(images, source), move_cells(images.contiguous(), source))
