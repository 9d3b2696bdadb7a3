"""The mixed images: both images of a pair with their cells moved, blended by the mask.

On a CPU a compiled loop copies only the cells that move, which are few. On a GPU this is plain PyTorch.
"""

import numpy as np
import torch
from torch import Tensor

from puzzlemix.mixing.blocks import cell_edges, cell_of_pixel, enlarge, move_cells
from puzzlemix.mixing.parallel import backend_for, compiled, for_all_images


def assemble(first: Tensor, second: Tensor, partner: Tensor, mask: Tensor, sources: Tensor | None) -> Tensor:
    """mixed = Z T0(x0) + (1 - Z) T1(x1), (B, C, H, W): the paper's mixup function h, Z being the mask in pixels.

    Args:
        first: x0 (B, C, H, W).
        second: (B, C, H, W), which holds x1 at `partner`.
        partner: (B,) int64.
        mask: z (B, n_h, n_w); 1 shows the first image.
        sources: (2, B, N_h, N_w) int64, for x0 and for x1 the cell that moves to each cell (`transport_plan`); None if
            nothing moves.
    """
    if backend_for(first) == "numba":
        return _assemble_on_cpu(first, second, partner, mask, sources)
    second = second[partner]
    if sources is not None:
        first, second = move_cells(first, sources[0]), move_cells(second, sources[1])
    share = enlarge(mask, first.shape[2:])[:, None]  # Z (B, 1, H, W)
    return share * first + (1 - share) * second


def _assemble_on_cpu(first: Tensor, second: Tensor, partner: Tensor, mask: Tensor, sources: Tensor | None) -> Tensor:
    if sources is None:
        sources = torch.empty((2, len(first), 0, 0), dtype=torch.int64, device="cpu")
    mixed = torch.empty_like(first, memory_format=torch.contiguous_format)
    first, second, partner, mask, sources = (t.contiguous().numpy() for t in (first, second, partner, mask, sources))
    size, cpu = first.shape[2:], torch.device("cpu")
    in_mask = [cell_of_pixel(length, n, cpu).numpy() for length, n in zip(size, mask.shape[1:], strict=True)]
    edges = [np.array(cell_edges(length, max(n, 1))) for length, n in zip(size, sources.shape[2:], strict=True)]
    arrays = first, second, partner, mask, *in_mask, sources, *edges, mixed.numpy()
    for_all_images(assemble_images, len(mixed), 2 * mixed.numel(), *arrays)
    return mixed


@compiled
def assemble_images(begin, end, first, second, partner, mask, mask_row, mask_column, sources, top, left, mixed):
    """Fill `mixed` (B, C, H, W) for images `begin` to `end` - 1; the other arrays are those of `assemble`.

    A pixel lies in row mask_row (H,) and column mask_column (W,) of the mask. The cells of `sources` (N_h = N_w = 0 if
    nothing moves) begin at the pixels top (N_h + 1,) and left (N_w + 1,).
    """
    _, channels, height, width = mixed.shape
    _, _, rows, columns = sources.shape
    share = np.empty((height, width), mixed.dtype)  # Z
    for b in range(begin, end):
        x0, x1 = first[b], second[partner[b]]
        for y in range(height):
            for x in range(width):
                share[y, x] = mask[b, mask_row[y], mask_column[x]]
        for c in range(channels):
            blend(share.ravel(), x0[c].ravel(), x1[c].ravel(), mixed[b, c].ravel())
        for row in range(rows):
            for column in range(columns):
                own = row * columns + column
                if sources[0, b, row, column] != own or sources[1, b, row, column] != own:
                    mix_moved_cell(row, column, x0, x1, share, sources[:, b], top, left, mixed[b])


@compiled
def blend(share, x0, x1, mixed):
    """mixed = share x0 + (1 - share) x1, for every pixel."""
    for i in range(len(mixed)):
        mixed[i] = share[i] * x0[i] + (1 - share[i]) * x1[i]


@compiled
def mix_moved_cell(row, column, x0, x1, share, sources, top, left, mixed):
    """Fill one cell from the cells that move there. A smaller source repeats its last row and column."""
    columns = sources.shape[2]
    row0, column0 = sources[0, row, column] // columns, sources[0, row, column] % columns
    row1, column1 = sources[1, row, column] // columns, sources[1, row, column] % columns
    for y in range(top[row], top[row + 1]):
        y0 = min(y - top[row] + top[row0], top[row0 + 1] - 1)
        y1 = min(y - top[row] + top[row1], top[row1 + 1] - 1)
        for x in range(left[column], left[column + 1]):
            from_x0 = min(x - left[column] + left[column0], left[column0 + 1] - 1)
            from_x1 = min(x - left[column] + left[column1], left[column1 + 1] - 1)
            z = share[y, x]
            for c in range(mixed.shape[0]):
                mixed[c, y, x] = z * x0[c, y0, from_x0] + (1 - z) * x1[c, y1, from_x1]
