"""The mixed picture: both images with their cells moved, blended by the mask.

A compiled loop on a CPU, which moves no cell that stays, as nearly all do; PyTorch's own operations on a GPU.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from puzzlemix.mixing import backend
from puzzlemix.mixing.blocks import cell_edges, cell_of_pixel, enlarge, move_cells


def assemble(first: Tensor, second: Tensor, partner: Tensor, mask: Tensor, sources: Tensor | None) -> Tensor:
    """mixed = Z T0(x0) + (1 - Z) T1(x1), the paper's mixup function, Z the mask enlarged to pixels.

    Args:
        first: x0 (B, C, H, W).
        second: (B, C, H, W), in which x1 is at `partner`.
        partner: (B,) int64.
        mask: z (B, n_h, n_w), 1 shows the first image.
        sources: (2, B, N_h, N_w) int64, of x0 and x1 the cell that moves to each cell (`transport_plan`); None: nothing
            moves.

    Returns:
        (B, C, H, W), a new tensor.
    """
    if backend.of(first) == "compiled":
        return _assemble_on_cpu(first, second, partner, mask, sources)
    second = second[partner]
    if sources is not None:
        first, second = move_cells(first, sources[0]), move_cells(second, sources[1])
    share = enlarge(mask, first.shape[2:])[:, None]  # Z (B, 1, H, W)
    return share * first + (1 - share) * second


def _assemble_on_cpu(first: Tensor, second: Tensor, partner: Tensor, mask: Tensor, sources: Tensor | None) -> Tensor:
    from puzzlemix.mixing.compiled import assemble, for_all_images  # here, so that importing this does not need numba

    if sources is None:
        sources = torch.empty((2, len(first), 0, 0), dtype=torch.int64, device="cpu")
    mixed = torch.empty_like(first, memory_format=torch.contiguous_format)
    first, second, partner, mask, sources = (t.contiguous().numpy() for t in (first, second, partner, mask, sources))
    in_mask = [
        cell_of_pixel(length, n, torch.device("cpu")).numpy()
        for length, n in zip(first.shape[2:], mask.shape[1:], strict=True)
    ]
    edges = [
        np.array(cell_edges(length, max(n, 1))) for length, n in zip(first.shape[2:], sources.shape[2:], strict=True)
    ]
    for_all_images(
        assemble.assemble_images,
        len(mixed),
        2 * mixed.numel(),
        first,
        second,
        partner,
        mask,
        *in_mask,
        sources,
        *edges,
        mixed.numpy(),
    )
    return mixed
