"""Means of cells and the costs of a mask: `compiled/costs.py` for a GPU."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

TILE = 4096  # pixels of a row of cells summed together
LANES = 128


def pool_planes(planes: Tensor, grid: tuple[int, int]) -> Tensor:
    """The mean of each cell: (P, H, W) -> (P, n_h, n_w)."""
    count, height, width = planes.shape
    means = planes.new_empty(count, *grid)
    across = triton.next_power_of_2(width)
    some = max(1, min(triton.next_power_of_2(grid[1]), TILE // across))
    _pool_planes[(count, grid[0], triton.cdiv(grid[1], some))](
        planes.contiguous(), means, height, width, *grid, WIDTH=across, SOME=some
    )
    return means


@triton.jit
def _pool_planes(planes, means, height, width, n_h, n_w, WIDTH: tl.constexpr, SOME: tl.constexpr):
    """Some cells of a row of cells."""
    plane, i = tl.program_id(0).to(tl.int64), tl.program_id(1)
    j = tl.program_id(2) * SOME + tl.arange(0, SOME)
    x = tl.arange(0, WIDTH)
    top, bottom = i * height // n_h, (i + 1) * height // n_h
    left, right = j * width // n_w, (j + 1) * width // n_w
    column = tl.zeros([WIDTH], planes.dtype.element_ty)  # sums of the pixels above each other
    for y in range(top, bottom):
        column += tl.load(planes + plane * height * width + y * width + x, x < width, other=0)
    within = (x[None, :] >= left[:, None]) & (x[None, :] < right[:, None])  # (SOME, WIDTH)
    total = tl.sum(tl.where(within, column[None, :], 0.0), axis=1)
    tl.store(means + plane * n_h * n_w + i * n_w + j, total / ((bottom - top) * (right - left)), j < n_w)


def border_costs(
    first: Tensor, second: Tensor, first_saliency: Tensor, second_saliency: Tensor, smoothness: float, data: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The terms of `costs.MaskCosts`; arguments as `costs.mask_costs`', beta' and beta' gamma / 2."""
    batch, channels, n_h, k_h, n_w, k_w = first.shape
    shapes = ((n_h, n_w), (n_h, n_w), (n_h - 1, n_w), (n_h, n_w - 1))
    terms = tuple(first_saliency.new_empty(batch, *shape) for shape in shapes)  # c1, c0, w down, w right
    _border_costs[(batch, triton.cdiv(n_h * n_w, LANES))](
        first.contiguous(), second.contiguous(), first_saliency.contiguous(), second_saliency.contiguous(),
        smoothness, data, *terms, channels, n_h, k_h, n_w, k_w, LANES=LANES,
    )  # fmt: skip
    return terms


@triton.jit
def _border_costs(
    first, second, first_saliency, second_saliency, smoothness, data, keep_first, take_second, down, right,
    channels, n_h, k_h, n_w, k_w, LANES: tl.constexpr,
):  # fmt: skip
    """What some blocks of a pair cost, each looking over its four borders; from both sides a border looks the same."""
    pair, blocks = tl.program_id(0).to(tl.int64), n_h * n_w
    block = tl.program_id(1) * LANES + tl.arange(0, LANES)
    i, j = block // n_w, block % n_w
    first += pair * channels * blocks * k_h * k_w
    second += pair * channels * blocks * k_h * k_w
    keep = tl.load(second_saliency + pair * blocks + block, block < blocks, other=0)
    take = tl.load(first_saliency + pair * blocks + block, block < blocks, other=0)
    row = n_w * k_w  # cells
    corner = i * k_h * row + j * k_w  # the first cell of the block, in a channel
    for direction in tl.static_range(4):  # up, right, down, left
        to_i = i + (1 if direction == 2 else (-1 if direction == 0 else 0))
        to_j = j + (1 if direction == 1 else (-1 if direction == 3 else 0))
        meets = (block < blocks) & (to_i >= 0) & (to_i < n_h) & (to_j >= 0) & (to_j < n_w)
        along, stride, far = (k_w, 1, (k_h - 1) * row) if direction % 2 == 0 else (k_h, row, k_w - 1)
        edge = far if (direction == 1) | (direction == 2) else 0
        own, theirs = corner + edge, to_i * k_h * row + to_j * k_w + far - edge
        same0, same1 = tl.zeros_like(keep), tl.zeros_like(keep)
        cross01, cross10 = tl.zeros_like(keep), tl.zeros_like(keep)
        for channel in range(channels):
            for k in range(along):
                cell = channel * blocks * k_h * k_w + k * stride
                own0 = tl.load(first + own + cell, meets, other=0)
                own1 = tl.load(second + own + cell, meets, other=0)
                their0 = tl.load(first + theirs + cell, meets, other=0)
                their1 = tl.load(second + theirs + cell, meets, other=0)
                same0 += tl.abs(own0 - their0)
                same1 += tl.abs(own1 - their1)
                cross01 += tl.abs(own0 - their1)
                cross10 += tl.abs(own1 - their0)
        scale = data / (channels * along)
        keep += scale * (same0 + cross01)
        take += scale * (same1 + cross10)
        weight = smoothness + scale * (cross01 + cross10 - same0 - same1)
        if direction == 1:
            tl.store(right + pair * n_h * (n_w - 1) + i * (n_w - 1) + j, weight, meets)
        if direction == 2:
            tl.store(down + pair * (n_h - 1) * n_w + block, weight, meets)
    tl.store(keep_first + pair * blocks + block, keep, block < blocks)
    tl.store(take_second + pair * blocks + block, take, block < blocks)
