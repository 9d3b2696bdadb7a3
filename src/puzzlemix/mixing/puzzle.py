"""Puzzle Mix (Kim, Choo, Song, ICML 2020): mix two images so that the salient parts of both stay visible.

A mask shows each image where it is salient (a minimum cut over blocks), and the salient blocks of each image move to
where the mask shows that image (transport). This file has the steps of a batch from top to bottom: draw, saliency,
costs, cut, transport, assembly.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from puzzlemix.mixing.assembly import assemble
from puzzlemix.mixing.base import PairMixer, check_noisy, check_pairs, check_tensor, per_channel, warn_once
from puzzlemix.mixing.blocks import Grid, as_grid, as_grids, enlarge, resample_grid
from puzzlemix.mixing.costs import block_saliency, border_smoothness, cells_of_blocks, mask_costs
from puzzlemix.mixing.cut import SOLVERS, solve_mask
from puzzlemix.mixing.losses import LOSSES, weight_of_cross_entropy
from puzzlemix.mixing.models import Loss, Model
from puzzlemix.mixing.parallel import backend_for
from puzzlemix.mixing.saliency import PRECISIONS, input_gradient, input_gradient_and_loss, saliency_of
from puzzlemix.mixing.swap import check_border_weight
from puzzlemix.mixing.transport import PLANS, transport_grid, transport_plan
from puzzlemix.runtime.errors import require, require_choice, require_number, require_whole

ERASED = 2.0  # allowed outside [0, 1] with mean and std: timm's RandomErasing fills boxes with normal noise


@dataclass(frozen=True, kw_only=True)
class PuzzleParameters:
    """The parameters of Puzzle Mix that do not depend on the images; raises `InputError` if one is out of range."""

    beta: float = 1.2  # weight of the mask's label smoothness, at least 0
    gamma: float = 0.5  # weight of the data smoothness, in [0, 1]; solver="swap" also takes more
    eta: float = 0.2  # weight of the prior, which pulls the share of the first image towards lam; at least 0
    neigh_size: int = 4  # side in pixels of the squares that are averaged before borders of blocks are compared
    n_labels: int = 3  # m, the number of mask values 0, 1/(m-1), ..., 1; 2 to 256
    transport: bool | str = True  # True: the released auction; "exact": the least cost, by SciPy; False: none
    t_eps: float = 0.8  # xi, the cost of a move across the whole image, in shares of saliency; at least 0
    t_size: int | None = None  # side in pixels of the cells that move, if blocks are larger; None: blocks move
    solver: str = "exact"  # "exact": the mask of least energy; "swap": the released local search for it

    def __post_init__(self) -> None:
        for name in ("beta", "gamma", "eta", "t_eps"):
            require_number(name, getattr(self, name))
        require_whole("neigh_size", self.neigh_size, least=1)
        require_whole("n_labels", self.n_labels, least=2, most=256)  # a pixel has 256 values
        if self.t_size is not None:
            require_whole("t_size", self.t_size, least=1)
        require_choice("solver", self.solver, SOLVERS)
        fits = self.gamma <= 1 or self.solver == "swap"  # above 1 a border weight could be negative
        require(fits, f"gamma must lie in [0, 1], not {self.gamma}: only solver=swap takes more")
        known = isinstance(self.transport, bool) or str(self.transport) in PLANS
        require(known, f"transport must be true, false, or one of {', '.join(PLANS)}, not {self.transport}")


@lru_cache(maxsize=64)  # so that training checks an image size once
def check_grids(parameters: PuzzleParameters, grids: tuple[Grid, ...], height: int, width: int) -> None:
    """Raise `InputError` if images of this size, in pixels, cannot have a mask of one of these grids."""
    for down, across in grids:
        pixels, blocks = f"{height} x {width} pixels", f"{down} x {across} blocks"
        fits = down <= height and across <= width
        require(fits, f"images of {pixels} are smaller than a grid of {blocks}: use fewer blocks")
        if parameters.solver == "swap":
            check_border_weight(border_smoothness(parameters.beta, (down, across)), (down, across))


class PuzzleMix(PairMixer):
    """Puzzle Mix for any training loop.

        mix = PuzzleMix(num_classes=100)
        mixed, targets = mix(model, images, labels)  # after optimizer.zero_grad(), before the forward pass

    A call leaves the model's modes, gradients and batch norm statistics, its arguments, and the random states of torch,
    numpy and Python as they were. With `clean_lam > 0` it is a training pass: it updates batch norm statistics and
    draws dropout, and its loss must be added to yours, by `mix.loss(criterion, logits, targets)` or as
    `mix.pop_clean_loss()`. The model may be wrapped by DDP, DataParallel or torch.compile, and may be a function.

    Args:
        alpha: see `PairMixer`; num_classes, prob, until_epoch (in `options`): see `Mixer`.
        blocks: grids to draw from, once per global batch. Each is a number of blocks per side or a pair (down, across);
            a single number gives one grid. `(2, 5)` draws 2 or 5 per side, `((2, 5),)` is always 2 down and 5 across.
        clean_lam: weight of the loss on unmixed images; with 0 the saliency pass runs in eval mode.
        loss: name in `losses.LOSSES` of the loss on mixed images, which sets the scale of the loss on unmixed images.
        clean_until_epoch: from this `epoch` on, `clean_lam` counts as 0; None: never, as in the release.
        adv_p: probability of adversarial noise on either image of a pair, with one coin per batch for each.
        adv_eps: bound of the noise, in 1/255 of the pixel range.
        adv_shared_coin: one coin for both images of a pair instead of two, nu0 = nu1 in the paper's Table 8.
        adv_decay: scale the noise by a number from U(0, 1), once per batch, as in the release; False: Table 8's "fgsm".
        per_sample: draw lam for each image instead of once per batch.
        saliency_precision: "same" as the training's, or "bf16": the saliency pass runs in bfloat16 by autocast, and so
            does the sign step of the adversarial noise. A pass with `clean_lam` is a training pass and stays as it is.
        mean, std: the values per channel with which images are normalised, mixed images as well; None if images are
            pixels in [0, 1], which the model normalises.
        forward: called as `forward(model, images)` for class scores, if `model(images)` does not return them.
        criterion: the loss whose gradient gives the saliency, of scores and targets (B, K): a mean, or a value for each
            image; None for the cross-entropy, the binary one if there is one score.
        **options: beta, gamma, eta and the others of `PuzzleParameters`, and those of `Mixer`.
    """

    given_names = ("lam", "partner", "blocks", "noisy", "start_noise", "noise_scale")

    def __init__(
        self,
        alpha: float = 1.0,
        blocks: int | Iterable[int | Grid] = (2, 4, 8, 16),
        clean_lam: float = 0.0,
        adv_p: float = 0.0,
        adv_eps: float = 10.0,
        *,
        num_classes: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        clean_until_epoch: int | None = None,
        loss: str = "bce_on_softmax",
        per_sample: bool = False,
        adv_shared_coin: bool = False,
        adv_decay: bool = True,
        saliency_precision: str = "same",
        forward: Callable[..., Any] | None = None,
        criterion: Loss | None = None,
        **options: Any,
    ):
        own = {name: options.pop(name) for name in PuzzleParameters.__dataclass_fields__ if name in options}
        super().__init__(alpha, num_classes=num_classes, **options)
        self.parameters = PuzzleParameters(**own)
        require_number("clean_lam", clean_lam)
        require_choice("loss", loss, LOSSES)
        require_number("adv_p", adv_p, 0, 1)
        require_number("adv_eps, in 1/255 of the pixel range,", adv_eps, 0, 255)
        if clean_until_epoch is not None:
            require_whole("clean_until_epoch", clean_until_epoch, least=0)
        for flag in (per_sample, adv_shared_coin, adv_decay):
            require(isinstance(flag, bool), f"per_sample, adv_shared_coin, adv_decay must be true or false, not {flag}")
        require_choice("saliency_precision", saliency_precision, PRECISIONS)
        self.blocks, self.saliency_precision = as_grids(blocks), saliency_precision
        self.clean_weight = clean_lam * weight_of_cross_entropy(loss, num_classes)
        self.clean_until_epoch, self.per_sample = clean_until_epoch, per_sample
        self.adv_p, self.adv_eps, self.adv_shared_coin, self.adv_decay = adv_p, adv_eps, adv_shared_coin, adv_decay
        self.mean, self.std = (None, None) if mean is std is None else per_channel(mean, std)
        if self.mean is not None:
            self.overshoot = ERASED
        self.forward, self.criterion = forward, criterion
        self._clean_loss: Tensor | None = None

    @property
    def needs_clipped(self) -> bool:
        return self.adv_p > 0 or super().needs_clipped

    def check(self, network: nn.Module, height: int, width: int) -> None:
        check_grids(self.parameters, self.blocks, height, width)

    def check_given(self, given: Mapping[str, Any], images: Tensor) -> None:
        super().check_given(given, images)
        grids = (as_grid(given["blocks"]),) if "blocks" in given else self.blocks  # every grid that may be drawn
        check_grids(self.parameters, grids, *images.shape[-2:])
        check_noisy(given.get("noisy", (False, False)))
        require_number("noise_scale", given.get("noise_scale", 1), 0, 1)
        if "start_noise" in given:
            check_tensor("start_noise", given["start_noise"], images, images.shape)

    def draw(self, images: Tensor, given: Mapping[str, Any]) -> dict[str, Any]:
        """Also draw `blocks`, two coins `noisy` (for first images and for partners) and, if one is true, noise."""
        drawn = super().draw(images, given) | {"blocks": self.draws.choice(self.blocks)}
        first = self.draws.coin(self.adv_p)
        drawn["noisy"] = first, first if self.adv_shared_coin else self.draws.coin(self.adv_p)
        if self.per_sample:
            drawn["lam"] = self.draws.betas(self.alpha, len(images), images.device)
        if any(given.get("noisy", drawn["noisy"])):
            drawn |= self.draw_noise(images)
        return drawn

    def draw_noise(self, images: Tensor) -> dict[str, Any]:
        """Draw `noise_scale` from U(0, 1) (1 without `adv_decay`), `start_noise` from U(-adv_eps, adv_eps) / 255."""
        scale, eps = self.draws.uniform() if self.adv_decay else 1.0, self.adv_eps / 255
        return {"noise_scale": scale, "start_noise": self.draws.uniform_like(images, -eps, eps)}

    def mix(self, model: Model, images: Tensor, targets: Tensor, drawn: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Mixed images (B, C, H, W) and targets (B, K), from saliency, a plan for each pair, and assembly."""
        lam, partner, noisy, grid = drawn["lam"], drawn["partner"], drawn["noisy"], as_grid(drawn["blocks"])
        pixels, noise, seen = self._to_pixels(images), None, images
        if any(noisy):
            noise = self.noise_for_saliency(model, pixels, targets, drawn)
            seen = self._from_pixels(pixels + noise).to(images.dtype)
        with self.stopwatch("saliency"):
            gradient = self._gradient(model, seen, targets)  # (B, C, H, W)
            saliency = saliency_of(gradient, model)  # (B, H, W)
        with torch.no_grad():
            share, mask, sources, uniform = plan_pairs(pixels, saliency, partner, lam, grid, self.parameters)
            self.last |= {"mask": mask, "sources": sources}
            self.count("uniform_saliency", uniform)
            if noise is not None:
                noise = self.noise_for_mixing(noise, gradient, drawn)
            first, second = _with_noise(pixels, noise, noisy)
            mixed = assemble(first.flatten(1, -3), second.flatten(1, -3), partner, mask, sources).view_as(images)
            return _in_the_format_of(images, self._from_pixels(mixed)), self.mixed_targets(targets, partner, share)

    def _gradient(self, model: Model, images: Tensor, targets: Tensor) -> Tensor:
        """Gradient with respect to the images, (B, C, H, W), from a training pass if the clean regulariser is on."""
        options = {"forward": self.forward, "criterion": self.criterion}
        is_over = self.clean_until_epoch is not None and self.epoch >= self.clean_until_epoch
        if self.clean_weight == 0 or is_over:
            return input_gradient(model, images, targets, self.saliency_precision, **options)
        if self._clean_loss is not None:
            warn_once("the loss of clean_lam was not added to yours: use mix.loss(...), or add mix.pop_clean_loss()")
        gradient, self._clean_loss = input_gradient_and_loss(model, images, targets, self.clean_weight, **options)
        return gradient

    def loss(self, criterion: Loss, logits: Any, targets: Tensor) -> Tensor:
        return super().loss(criterion, logits, targets) + self.pop_clean_loss()

    def pop_clean_loss(self) -> Tensor | float:
        """The loss on the unmixed images of the last batch, times `clean_lam`: add it to yours. 0 if there is none."""
        loss, self._clean_loss = self._clean_loss, None
        return 0.0 if loss is None else loss

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_clean_loss": None}  # its graph cannot be copied

    def noise_for_saliency(self, model: Model, pixels: Tensor, targets: Tensor, drawn: Mapping[str, Any]) -> Tensor:
        """The noise on the images whose saliency is computed, (B, C, H, W): uniform within adv_eps / 255."""
        return (pixels + drawn["start_noise"]).clamp(0, 1) - pixels

    def noise_for_mixing(self, noise: Tensor, gradient: Tensor, drawn: Mapping[str, Any]) -> Tensor:
        """The noise on the mixed images: a sign step of (adv_eps + 2) / 255, clipped to adv_eps / 255, then scaled."""
        eps, step = self.adv_eps / 255, (self.adv_eps + 2) / 255
        return (noise + step * gradient.nan_to_num(0).sign()).clamp(-eps, eps) * drawn["noise_scale"]

    def _to_pixels(self, images: Tensor) -> Tensor:
        """The images as pixels in [0, 1]. Normalised images in half precision become float32."""
        if self.mean is None:
            return images
        fit = len(self.mean) in (1, images.shape[1])
        require(fit, f"mean and std are of {len(self.mean)} channels, but the images have {images.shape[1]}")
        shape = -1, *[1] * (images.ndim - 2)
        self.mean, self.std = (value.to(images.device).view(shape) for value in (self.mean, self.std))  # moved once
        return images * self.std + self.mean

    def _from_pixels(self, pixels: Tensor) -> Tensor:
        return pixels if self.mean is None else (pixels - self.mean) / self.std


class Puzzle(NamedTuple):
    """A mixed batch and how it was made."""

    images: Tensor  # (B, C, H, W), pixels in [0, 1]
    share: Tensor  # (B,), share of the pixels that show the first image: mean of the mask in pixels
    mask: Tensor  # z (B, n_h, n_w); 1 shows the first image, 0 its partner
    sources: Tensor | None  # (2, B, N_h, N_w) int64, for first image and partner: the cell (row by row) that moved here
    uniform: Tensor  # (B,) bool, whether this image's saliency was unusable and counted as uniform


@torch.no_grad()
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
    """Mix every image with its partner, with saliency that the caller gives. It draws nothing and changes no input.

    Args:
        images: x (B, C, H, W), pixels in [0, 1], of any floating dtype, memory format and number of channels; half
            precision is computed in float32.
        saliency: s (B, H, W), 0 or more, in any scale. If an image's saliency has a sum of 0, or a sum that is not
            finite, the image is mixed as if its saliency were uniform.
        partner: (B,) int64, the index of each image's partner in the batch.
        lam: wanted share of the first image, in [0, 1]; a number or (B,).
        blocks: n, the number of blocks per side of the mask, or (down, across).
        noise: (B, C, H, W), added to the images that are `noisy` once the mask is known; the sum is clipped to [0, 1].
        noisy: whether the first image has the noise, and whether its partner has it (the adversarial variant).
        **parameters: those of `PuzzleParameters`.

    Raises:
        InputError: (a ValueError) a parameter is out of range, a shape, dtype or device does not fit, or there are more
            blocks than pixels. Values of tensors are checked on a CPU; on a GPU only if the environment has
            PUZZLEMIX_DEBUG=1, because this needs a host/device synchronisation.

    Source: the paper's method section; `mixup_graph` of the authors' release.
    """
    if torch.compiler.is_compiling():
        given = {"lam": lam, "blocks": blocks, "noise": noise, "noisy": noisy, **parameters}
        return torch.compiler.disable(puzzle_mix)(images, saliency, partner, **given)
    parameters = PuzzleParameters(**parameters)
    check_pairs(images, saliency, partner, lam, noise, noisy)
    grid = as_grid(blocks)
    check_grids(parameters, (grid,), *images.shape[-2:])

    share, mask, sources, uniform = plan_pairs(images, saliency, partner, lam, grid, parameters)
    first, second = _with_noise(images, noise, noisy)
    mixed = assemble(first.flatten(1, -3), second.flatten(1, -3), partner, mask, sources).view_as(images)
    return Puzzle(_in_the_format_of(images, mixed), share, mask, sources, uniform)


def plan_pairs(
    images: Tensor, saliency: Tensor, partner: Tensor, lam: float | Tensor, grid: Grid, parameters: PuzzleParameters
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Plan every pair, by costs, cut and transport: the `share`, `mask`, `sources` and `uniform` of a `Puzzle`."""
    given, size = images.device, images.shape[-2:]
    images = images.flatten(1, -3)  # frames of a video count as channels
    place = given if backend_for(images) else torch.device("cpu")  # for a device that is neither CPU nor GPU
    images, saliency = (_full_precision(values).to(place) for values in (images, saliency))
    partner, lam = (values.to(place) if isinstance(values, Tensor) else values for values in (partner, lam))
    with torch.cuda.device_of(images):  # Triton launches kernels on the current GPU, wherever the tensors are
        share, uniform = block_saliency(saliency, grid)  # (B, n_h, n_w), (B,)
        cells = cells_of_blocks(images, grid, parameters.neigh_size)
        costs = mask_costs(cells, cells[partner], share, share[partner], parameters.beta, parameters.gamma)
        mask = solve_mask(costs, lam, parameters.eta, parameters.n_labels, parameters.solver)  # (B, n_h, n_w)

        sources = None
        if parameters.transport:
            fine = transport_grid(grid, size, parameters.t_size)
            share = share if fine == grid else block_saliency(saliency, fine)[0]  # (B, N_h, N_w)
            fine_mask = resample_grid(mask, fine)
            shares, visible = torch.stack([share, share[partner]]), torch.stack([fine_mask > 0, fine_mask < 1])
            moves = transport_plan(shares.flatten(0, 1), visible.flatten(0, 1), parameters.t_eps, parameters.transport)
            sources = moves.view_as(shares).to(given)
    return enlarge(mask, size).mean((1, 2)).to(given), mask.to(given), sources, uniform.to(given)


def _with_noise(images: Tensor, noise: Tensor | None, noisy: Sequence[bool]) -> tuple[Tensor, Tensor]:
    """The images as first image and as partner of a pair, each with the noise if `noisy`, in full precision."""
    images = _full_precision(images)
    perturbed = (images + _full_precision(noise)).clamp(0, 1) if any(noisy) else images
    return tuple(perturbed if is_noisy else images for is_noisy in noisy)


def _in_the_format_of(given: Tensor, images: Tensor) -> Tensor:
    """Images in the dtype of `given`, and in the channels-last memory format if `given` has it."""
    channels_last = given.is_contiguous(memory_format=torch.channels_last) and not given.is_contiguous()
    return images.to(given.dtype, memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _full_precision(values: Tensor) -> Tensor:
    """The values, detached; float16 and bfloat16 become float32."""
    return values.detach().float() if values.element_size() < 4 else values.detach()
