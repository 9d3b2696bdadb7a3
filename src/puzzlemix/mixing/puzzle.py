"""Puzzle Mix (Kim, Choo, Song, ICML 2020): mix two images so that both stay recognisable.

A mask shows each image where it is salient (a graph cut over blocks), and each image's salient blocks move to where the
mask shows it (transport). One batch is: draw; saliency; costs; cut; transport; mix. Each step is entered once, in its
own file: `saliency.py`, `costs.py`, `graphcut.py`, `transport.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from numbers import Integral, Real
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from puzzlemix.errors import require, require_choice
from puzzlemix.losses import LOSSES, weight_of_cross_entropy
from puzzlemix.mixing import backend
from puzzlemix.mixing.assemble import assemble
from puzzlemix.mixing.base import PairMixer
from puzzlemix.mixing.blocks import Grid, enlarge, resample_grid
from puzzlemix.mixing.costs import block_saliency, cells_of_blocks, mask_costs
from puzzlemix.mixing.graphcut import solve_mask
from puzzlemix.mixing.puzzle_parameters import (
    PuzzleParameters,
    as_grid,
    by_grid,
    check_noise,
    check_pairs,
    check_saliency,
)
from puzzlemix.mixing.saliency import input_gradient, input_gradient_and_backward, saliency_of
from puzzlemix.mixing.transport import transport_grid, transport_plan


class Puzzle(NamedTuple):
    """A mixed batch and its pieces.

    Attributes:
        images: (B, C, H, W), pixels in [0, 1].
        share: (B,), of the first image: the mean of its mask.
        mask: z (B, n_h, n_w), 1 keeps the first image, 0 takes its partner; (B, H, W) where `blocks` is a tensor.
        sources: (2, B, N_h, N_w) int64, of the first image and of its partner, the cell, counted row by row, that moved
            to each cell; None without transport, or where `blocks` is a tensor.
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
    blocks: int | Grid | Tensor,
    beta: float = 1.2,
    gamma: float = 0.5,
    eta: float = 0.2,
    neigh_size: int = 4,
    n_labels: int = 3,
    transport: bool | str = True,
    t_eps: float = 0.8,
    t_size: int | None = None,
    noise: Tensor | None = None,
    noisy: tuple[bool, bool] = (False, False),
    solver: str = "exact",
) -> Puzzle:
    """Puzzle Mix of every image with its partner, the saliency given. Nothing is random, nothing is changed in place.

    Args:
        images: x (B, C, H, W), pixels in [0, 1], of any floating dtype, memory format and number of channels; half
            precision is worked on in float32. On a device that is neither a CPU nor a GPU with Triton, the batch goes
            through the CPU.
        saliency: s (B, H, W), not negative, in any scale; an image whose sum is 0 or not finite mixes as if uniform.
        partner: (B,) int64, each image's partner in the batch.
        lam: wanted share of the first image, in [0, 1]; (B,) for one an image.
        blocks: n, blocks a side of the mask, or (down, across); (B,) or (B, 2) int64 for one an image, for which a GPU
            is waited for.
        beta: label smoothness of the mask, 0 or more.
        gamma: data smoothness, in [0, 1]; above only with `solver="swap"`.
        eta: weight of the prior that draws the share towards lam, 0 or more.
        neigh_size: pixels a side averaged before borders are compared.
        n_labels: m, mask values 0, 1/(m-1), ..., 1; 2 or more.
        transport: move salient blocks, by the released auction (True) or for the least cost ("exact": by SciPy, on the
            CPU); False mixes in place.
        t_eps: xi, cost of a move across the whole image, in saliency shares.
        t_size: pixels a side of the cells that move where the mask's blocks are larger; None moves the mask's blocks.
        noise: (B, C, H, W), added (and clipped to [0, 1]) to a side that is `noisy` once the mask is solved.
        noisy: whether the first and the second image of each pair carry the noise: the adversarial variant.
        solver: "exact", the mask of least energy, or "swap", the released search for it.

    Returns:
        A `Puzzle`.

    Raises:
        InputError: (a ValueError) on a parameter out of range, shapes, dtypes or devices that do not fit, or more
            blocks than pixels. Values (partners out of range, negative saliency) are looked at on a CPU; on a GPU,
            which would have to be waited for, only where the environment has PUZZLEMIX_DEBUG=1.

    Source: `mixup_graph` of the authors' release, function by function the paper's section on the method.
    """
    parameters = PuzzleParameters(beta, gamma, eta, neigh_size, n_labels, transport, t_eps, t_size, solver)
    check_pairs(images, partner, lam)
    check_saliency(saliency, images)
    check_noise(noise, noisy, images)
    given, place = images, images.device if backend.of(images) else "cpu"
    images, saliency, partner, lam, blocks, noise = _moved((images, saliency, partner, lam, blocks, noise), place)
    images, saliency = _full_precision(images), _full_precision(saliency)
    perturbed = (images + _full_precision(noise)).clamp(0, 1) if any(noisy) else images
    shown = perturbed if noisy[0] else images, perturbed if noisy[1] else images
    pairs = _Pairs(images, saliency, partner, lam, *shown)
    with backend.launching_on(images.device):
        if isinstance(blocks, Tensor):
            puzzle = _mix_on_grids(pairs, blocks, parameters)
        else:
            grid = as_grid(blocks)
            parameters.check_grid(grid, *images.shape[2:])
            puzzle = _mix_on_grid(pairs, slice(None), grid, parameters)
    puzzle = puzzle._replace(images=_in_the_format_of(given, puzzle.images))
    return Puzzle(*_moved(puzzle, given.device))


class _Pairs(NamedTuple):
    """A batch to be mixed."""

    images: Tensor  # x (B, C, H, W)
    saliency: Tensor  # (B, H, W)
    partner: Tensor  # (B,)
    lam: float | Tensor  # (B,) where a tensor
    first: Tensor  # (B, C, H, W), the images as the first of a pair is shown: with noise or without
    second: Tensor  # (B, C, H, W), likewise the second

    def lam_of(self, index: Tensor | slice) -> float | Tensor:
        return self.lam[index] if isinstance(self.lam, Tensor) else self.lam


def _mix_on_grid(pairs: _Pairs, index: Tensor | slice, grid: Grid, parameters: PuzzleParameters) -> Puzzle:
    """The pairs of some images, `index`, in blocks of one grid: costs, cut, transport, assembly."""
    partner, size = pairs.partner[index], pairs.images.shape[-2:]  # (B',)
    share, uniform = block_saliency(pairs.saliency, grid)  # (B, n_h, n_w)
    cells = cells_of_blocks(pairs.images, grid, parameters.neigh_size)
    costs = mask_costs(cells[index], cells[partner], share[index], share[partner], parameters.beta, parameters.gamma)
    mask = solve_mask(costs, pairs.lam_of(index), parameters.eta, parameters.n_labels, parameters.solver)

    sources = None
    if parameters.transport:
        fine = transport_grid(grid, size, parameters.t_size)
        share = share if fine == grid else block_saliency(pairs.saliency, fine)[0]  # (B, N_h, N_w)
        fine_mask = resample_grid(mask, fine)
        shares, visible = torch.stack([share[index], share[partner]]), torch.stack([fine_mask > 0, fine_mask < 1])
        sources = transport_plan(
            shares.flatten(0, 1), visible.flatten(0, 1), parameters.t_eps, parameters.transport
        ).view_as(shares)

    mixed = assemble(pairs.first[index], pairs.second, partner, mask, sources)
    return Puzzle(mixed, enlarge(mask, size).mean((1, 2)), mask, sources, uniform[index])


def _mix_on_grids(pairs: _Pairs, blocks: Tensor, parameters: PuzzleParameters) -> Puzzle:
    """Every image in blocks of its own grid; the masks, of different sizes, as pixels."""
    size = pairs.images.shape[-2:]
    groups = by_grid(blocks)
    require(
        len(blocks) == len(pairs.partner),
        f"blocks must have one row for each of {len(pairs.partner)} images, not {len(blocks)}",
    )
    for grid, _ in groups:
        parameters.check_grid(grid, *size)
    parts = [_mix_on_grid(pairs, index, grid, parameters) for grid, index in groups]
    order = torch.cat([index for _, index in groups]).argsort()  # (B,)
    images, share, uniform = (
        torch.cat([getattr(part, name) for part in parts])[order] for name in ("images", "share", "uniform")
    )
    mask = torch.cat([enlarge(part.mask, size) for part in parts])[order]  # (B, H, W)
    return Puzzle(images, share, mask, None, uniform)


class PuzzleMix(PairMixer):
    """Puzzle Mix for any training loop.

        mix = PuzzleMix(num_classes=100)
        mixed, targets = mix(model, images, labels)  # after optimizer.zero_grad(), before the forward pass

    The call changes nothing: not the model's modes, gradients or batch norm statistics, not the tensors given, not the
    random state of torch, numpy or Python. But with `clean_lam > 0` it is a training pass, which leaves parameter
    gradients behind for the mixed loss's backward to add to (zero them before the call, not after; a GradScaler, which
    knows nothing of them, would divide them by its scale), moves batch norm statistics once more and draws dropout. Of
    a model in DDP, DataParallel or torch.compile, the model inside is differentiated.

    Args:
        alpha: lam ~ Beta(alpha, alpha), one a (global) batch.
        blocks: grids to draw from, each blocks a side or a pair (down, across), one a (global) batch; or a single
            number of blocks a side. `(2, 5)` draws 2 or 5 a side, `((2, 5),)` is always 2 down and 5 across.
        beta, gamma, eta, neigh_size, n_labels, transport, t_eps, t_size, solver: see `puzzle_mix`.
        clean_lam: weight of the loss on unmixed images; 0 takes saliency in eval mode and leaves no gradients.
        loss: name in `losses.LOSSES` of the loss on the mixed images, which that one is brought to the scale of.
        clean_until_epoch: from this `epoch` on, an attribute that the loop sets, `clean_lam` counts as 0; None never,
            as released.
        adv_p: probability, for each image of a pair, of stochastic adversarial noise on that side.
        adv_eps: bound of the noise, in 1/255 of the pixel range.
        num_classes: K of the targets.
        prob: probability that a batch is mixed at all.
        per_sample: draw lam and blocks for each image of a batch rather than once for all of them.
        mean, std: None where images are pixels in [0, 1] and the model normalises; else what they come normalised
            with, channel by channel, and the mixed ones are normalised likewise.

    Raises:
        InputError: (a ValueError) on a parameter out of range.
    """

    given_names = ("lam", "partner", "blocks", "noisy", "start_noise", "noise_scale")

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 1.2,
        gamma: float = 0.5,
        eta: float = 0.2,
        neigh_size: int = 4,
        n_labels: int = 3,
        blocks: int | Iterable[int | Grid] = (2, 4, 8, 16),
        transport: bool | str = True,
        t_eps: float = 0.8,
        t_size: int | None = None,
        clean_lam: float = 0.0,
        adv_p: float = 0.0,
        adv_eps: float = 10.0,
        solver: str = "exact",
        *,
        num_classes: int,
        prob: float = 1.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        clean_until_epoch: int | None = None,
        loss: str = "bce_on_softmax",
        per_sample: bool = False,
    ):
        super().__init__(alpha, num_classes=num_classes, prob=prob)
        self.parameters = PuzzleParameters(beta, gamma, eta, neigh_size, n_labels, transport, t_eps, t_size, solver)
        blocks = (blocks,) if isinstance(blocks, Integral) else blocks
        grids = isinstance(blocks, Iterable) and not isinstance(blocks, str) and len(blocks := tuple(blocks)) > 0
        require(grids, f"blocks must be a number, or grids to draw from such as (2, 4, (8, 16)), not {blocks}")
        clean = isinstance(clean_lam, Real) and 0 <= clean_lam < inf
        require(clean, f"clean_lam must be a finite number, 0 or more, not {clean_lam}")
        require_choice("loss", loss, LOSSES)
        require(0 <= adv_p <= 1, f"adv_p must lie in [0, 1], not {adv_p}")
        require(0 <= adv_eps <= 255, f"adv_eps is in 1/255 of the pixel range, in [0, 255], not {adv_eps}")
        stops = clean_until_epoch is None or (isinstance(clean_until_epoch, Integral) and clean_until_epoch >= 0)
        require(stops, f"clean_until_epoch must be a whole number, 0 or more, or None, not {clean_until_epoch}")
        require((mean is None) == (std is None), "give both mean and std, or neither")
        if mean is not None:
            fit = len(mean) == len(std) and all(s > 0 for s in std)
            require(fit, f"mean and std must have a number a channel, std above 0, not {list(mean)} and {list(std)}")
        self.blocks = tuple(as_grid(b) for b in blocks)
        self.clean_weight = clean_lam * weight_of_cross_entropy(loss, num_classes)
        self.clean_until_epoch, self.per_sample = clean_until_epoch, per_sample
        self.adv_p, self.adv_eps = adv_p, adv_eps
        self.mean, self.std = (
            None if v is None else torch.as_tensor(v, dtype=torch.float32, device="cpu").view(-1, 1, 1)
            for v in (mean, std)
        )

    def check(self, network: nn.Module, height: int, width: int) -> None:
        for grid in self.blocks:
            self.parameters.check_grid(grid, height, width)

    def draw(self, images: Tensor, given: Mapping[str, Any]) -> dict[str, Any]:
        """Also `blocks`, the two coins `noisy`, and, where a coin is up, `noise_scale` (shared) and `start_noise`."""
        if "blocks" not in given and images.ndim == 4:
            for grid in self.blocks:  # rather than once the one that does not fit is drawn
                self.parameters.check_grid(grid, *images.shape[2:])
        drawn = super().draw(images, given) | {
            "blocks": self.draws.choice(self.blocks),
            "noisy": (self.draws.coin(self.adv_p), self.draws.coin(self.adv_p)),
        }
        if self.per_sample:
            drawn["lam"] = self.draws.betas(self.alpha, len(images), images.device)
            drawn["blocks"] = self.draws.choices(self.blocks, len(images), images.device)
        if any(given.get("noisy", drawn["noisy"])):
            eps = self.adv_eps / 255
            drawn |= {"noise_scale": self.draws.uniform(), "start_noise": self.draws.uniform_like(images, -eps, eps)}
        return drawn

    def mix(self, model: nn.Module, images: Tensor, labels: Tensor, drawn: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        pixels, noise = self._to_pixels(images), None
        check_pairs(pixels, drawn["partner"], drawn["lam"])  # here too, before the saliency pass is spent on them
        if not isinstance(drawn["blocks"], Tensor):
            self.parameters.check_grid(as_grid(drawn["blocks"]), *pixels.shape[2:])
        if any(drawn["noisy"]):
            noise = (pixels + drawn["start_noise"]).clamp(0, 1) - pixels
        with self.stopwatch("saliency"):
            gradient = self._gradient(model, images if noise is None else self._from_pixels(pixels + noise), labels)
            saliency = saliency_of(gradient, model)  # (B, H, W)
        with torch.no_grad():
            if noise is not None:
                noise = self._adversarial_noise(noise, gradient, drawn["noise_scale"])
            lam, partner, blocks, noisy = (drawn[k] for k in ("lam", "partner", "blocks", "noisy"))
            puzzle = puzzle_mix(
                pixels, saliency, partner, lam=lam, blocks=blocks, noise=noise, noisy=noisy, **vars(self.parameters)
            )
            self.count("uniform_saliency", puzzle.uniform)
            return self._from_pixels(puzzle.images).to(images.dtype), self.mixed_targets(labels, partner, puzzle.share)

    def _gradient(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Input gradient (B, C, H, W), from the clean-regularised pass while that is on."""
        over = self.clean_until_epoch is not None and self.epoch >= self.clean_until_epoch
        if self.clean_weight == 0 or over:
            return input_gradient(model, images, labels)
        return input_gradient_and_backward(model, images, labels, self.clean_weight)

    def _adversarial_noise(self, noise: Tensor, gradient: Tensor, scale: float) -> Tensor:
        """One sign step of (adv_eps + 2) / 255 from the start noise, clipped to adv_eps / 255, shrunk by `scale`."""
        eps, step = self.adv_eps / 255, (self.adv_eps + 2) / 255
        return (noise + step * gradient.nan_to_num(0).sign()).clamp(-eps, eps) * scale

    def _to_pixels(self, images: Tensor) -> Tensor:
        """Of half precision, normalised, in float32."""
        if self.mean is None:
            return images
        channels = images.shape[1] if images.ndim == 4 else "no"
        fit = len(self.mean) in (1, channels)
        require(fit, f"mean and std are of {len(self.mean)} channels, but the images have {channels}")
        self.mean, self.std = self.mean.to(images.device), self.std.to(images.device)  # once: a GPU is waited for
        return images * self.std + self.mean

    def _from_pixels(self, pixels: Tensor) -> Tensor:
        return pixels if self.mean is None else (pixels - self.mean) / self.std


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
