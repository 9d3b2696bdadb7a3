"""The mixed picture of `mixing/assemble.py`: every pixel looks up where it comes from in either image."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

LANES = 512


def assemble_images(first: Tensor, second: Tensor, partner: Tensor, mask: Tensor, sources: Tensor | None) -> Tensor:
    """Arguments and result as `mixing.assemble.assemble`'s."""
    batch, channels, height, width = first.shape
    mixed = torch.empty_like(first, memory_format=torch.contiguous_format)
    cells = (1, 1) if sources is None else tuple(sources.shape[2:])
    _assemble_images[(batch, triton.cdiv(height * width, LANES))](
        first.contiguous(), second.contiguous(), partner.contiguous(), mask.contiguous(),
        partner if sources is None else sources.contiguous(),  # not looked at where nothing moves
        mixed, channels, height, width, *mask.shape[1:], *cells, MOVES=sources is not None, LANES=LANES,
    )  # fmt: skip
    return mixed


@triton.jit
def _assemble_images(
    first, second, partner, mask, sources, mixed, channels, height, width, n_h, n_w, cells_h, cells_w,
    MOVES: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Some pixels of an image, all channels."""
    image, images = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    pixels = height * width
    pixel = tl.program_id(1) * LANES + tl.arange(0, LANES)
    inside = pixel < pixels
    y, x = pixel // width, pixel % width
    block = ((y + 1) * n_h - 1) // height * n_w + ((x + 1) * n_w - 1) // width
    share = tl.load(mask + image * n_h * n_w + block, inside, other=0)
    from0, from1 = pixel, pixel
    if MOVES:
        row, column = ((y + 1) * cells_h - 1) // height, ((x + 1) * cells_w - 1) // width
        cell = image * cells_h * cells_w + row * cells_w + column
        source0 = tl.load(sources + cell, inside, other=0)
        source1 = tl.load(sources + images * cells_h * cells_w + cell, inside, other=0)
        down, right = y - row * height // cells_h, x - column * width // cells_w  # within the cell
        from0 = _pixel_of_source(source0, down, right, height, width, cells_h, cells_w)
        from1 = _pixel_of_source(source1, down, right, height, width, cells_h, cells_w)
    x0 = first + image * channels * pixels
    x1 = second + tl.load(partner + image) * channels * pixels
    for channel in range(channels):
        one = tl.load(x0 + channel * pixels + from0, inside, other=0)
        other = tl.load(x1 + channel * pixels + from1, inside, other=0)
        blend = share * one + (1 - share) * other
        tl.store(mixed + image * channels * pixels + channel * pixels + pixel, blend, inside)


@triton.jit
def _pixel_of_source(source, down, right, height, width, cells_h, cells_w):
    """The pixel that moves along with its cell; a smaller cell repeats its last row and column."""
    row, column = (source // cells_w).to(tl.int32), (source % cells_w).to(tl.int32)
    y = tl.minimum(row * height // cells_h + down, (row + 1) * height // cells_h - 1)
    x = tl.minimum(column * width // cells_w + right, (column + 1) * width // cells_w - 1)
    return y * width + x
