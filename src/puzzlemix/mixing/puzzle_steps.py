"""Puzzle Mix of a batch whose saliency is given: costs, cut, transport, assembly.

Each step is entered once, in its own file: `costs.py`, `graphcut.py`, `transport.py`, `assemble.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from puzzlemix.mixing import backend
from puzzlemix.mixing.assemble import assemble
from puzzlemix.mixing.blocks import Grid, as_grid, enlarge, resample_grid
from puzzlemix.mixing.checks import check_images, check_noise, check_partner, check_saliency, check_shares
from puzzlemix.mixing.costs import block_saliency, cells_of_blocks, mask_costs
from puzzlemix.mixing.graphcut import solve_mask
from puzzlemix.mixing.puzzle_parameters import PuzzleParameters
from puzzlemix.mixing.transport import transport_grid, transport_plan
from puzzlemix.runtime.errors import OVERSHOOT, require, require_pixels, values_are_looked_at


class Puzzle(NamedTuple):
    """A mixed batch and its pieces.

    Attributes:
        images: (B, C, H, W), pixels in [0, 1].
        share: (B,), of the first image: of the pixels, the mean of the mask enlarged to them.
        mask: z (B, n_h, n_w), 1 keeps the first image, 0 takes its partner.
        sources: (2, B, N_h, N_w) int64, of the first image and of its partner, the cell, counted row by row, that moved
            to each cell; None without transport.
        uniform: (B,) bool, whether this image's saliency was unusable and counted as uniform.
    """

    images: Tensor
    share: Tensor
    mask: Tensor
    sources: Tensor | None
    uniform: Tensor


def puzzle_mix(
    images: Tensor,
    saliency: Tensor,
    partner: Tensor,
    *,
    lam: float | Tensor,
    blocks: int | Grid,
    noise: Tensor | None = None,
    noisy: tuple[bool, bool] = (False, False),
    **parameters: Any,
) -> Puzzle:
    """Puzzle Mix of every image with its partner, the saliency given. Nothing is random, nothing is changed in place.

    Args:
        images: x (B, C, H, W), pixels in [0, 1], of any floating dtype, memory format and number of channels; half
            precision is worked on in float32. On a device that is neither a CPU nor a GPU with Triton, the batch goes
            through the CPU.
        saliency: s (B, H, W), not negative, in any scale; an image whose sum is 0 or not finite mixes as if uniform.
        partner: (B,) int64, each image's partner in the batch.
        lam: wanted share of the first image, in [0, 1]; (B,) for one an image.
        blocks: n, blocks a side of the mask, or (down, across).
        noise: (B, C, H, W), added (and clipped to [0, 1]) to a side that is `noisy` once the mask is solved.
        noisy: whether the first image and its partner carry the noise, in the adversarial variant.
        **parameters: of `PuzzleParameters`: beta, gamma, eta, neigh_size, n_labels, transport, t_eps, t_size, solver.

    Returns:
        A `Puzzle`.

    Raises:
        InputError: (a ValueError) on a parameter out of range, shapes, dtypes or devices that do not fit, or more
            blocks than pixels. Values (partners out of range, negative saliency) are looked at on a CPU; on a GPU,
            which would have to be waited for, only where the environment has PUZZLEMIX_DEBUG=1.

    Source: `mixup_graph` of the authors' release, function by function the paper's section on the method.
    """
    chosen = PuzzleParameters(**parameters)
    check_images(images)
    require(images.numel() > 0, f"images of shape {tuple(images.shape)} hold no pixels")
    if values_are_looked_at(images.device.type):
        require_pixels(images, OVERSHOOT)
    check_partner(partner, images)
    check_shares("lam", lam, images)
    check_saliency(saliency, images)
    check_noise(noise, noisy, images)
    return mix_checked(images, saliency, partner, lam, blocks, noise, noisy, chosen)


def mix_checked(
    images: Tensor,
    saliency: Tensor,
    partner: Tensor,
    lam: float | Tensor,
    blocks: int | Grid,
    noise: Tensor | None,
    noisy: tuple[bool, bool],
    parameters: PuzzleParameters,
) -> Puzzle:
    """`puzzle_mix` of arguments that have been checked; `blocks` are checked here."""
    grid, size, given = as_grid(blocks), images.shape[2:], images
    parameters.check_grid(grid, *size)
    place = images.device if backend.of(images) else "cpu"
    images, saliency, partner, lam, noise = _moved((images, saliency, partner, lam, noise), place)
    images, saliency = _full_precision(images), _full_precision(saliency)
    with backend.launching_on(images.device):
        share, uniform = block_saliency(saliency, grid)  # (B, n_h, n_w), (B,)
        cells = cells_of_blocks(images, grid, parameters.neigh_size)
        costs = mask_costs(cells, cells[partner], share, share[partner], parameters.beta, parameters.gamma)
        mask = solve_mask(costs, lam, parameters.eta, parameters.n_labels, parameters.solver)

        sources = None
        if parameters.transport:
            fine = transport_grid(grid, size, parameters.t_size)
            share = share if fine == grid else block_saliency(saliency, fine)[0]  # (B, N_h, N_w)
            fine_mask = resample_grid(mask, fine)
            shares, visible = torch.stack([share, share[partner]]), torch.stack([fine_mask > 0, fine_mask < 1])
            plan = transport_plan(shares.flatten(0, 1), visible.flatten(0, 1), parameters.t_eps, parameters.transport)
            sources = plan.view_as(shares)

        perturbed = (images + _full_precision(noise)).clamp(0, 1) if any(noisy) else images
        first, second = (perturbed if carries else images for carries in noisy)
        mixed = _in_the_format_of(given, assemble(first, second, partner, mask, sources))
        return Puzzle(*_moved((mixed, enlarge(mask, size).mean((1, 2)), mask, sources, uniform), given.device))


def _moved(values: Iterable[Any], device: torch.device | str) -> list[Any]:
    """The values, those that are tensors on the device and apart from any graph."""
    return [value.detach().to(device) if isinstance(value, Tensor) else value for value in values]


def _in_the_format_of(given: Tensor, images: Tensor) -> Tensor:
    """Images in the dtype of those given, and channels last where they are."""
    channels_last = given.is_contiguous(memory_format=torch.channels_last) and not given.is_contiguous()
    return images.to(given.dtype, memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _full_precision(values: Tensor) -> Tensor:
    """float16 and bfloat16 as float32."""
    return values.float() if values.element_size() < 4 else values
