"""Puzzle Mix (Kim, Choo, Song, ICML 2020): mix two images so that both stay recognisable.

A mask shows each image where it is salient (a graph cut over blocks), and each image's salient blocks move to where the
mask shows it (transport). One batch, from top to bottom: draw, saliency, costs, cut, transport, assembly.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from puzzlemix.mixing.assembly import assemble
from puzzlemix.mixing.base import PairMixer, check_noisy, check_pairs, check_tensor, per_channel
from puzzlemix.mixing.blocks import Grid, as_grid, as_grids, enlarge, resample_grid
from puzzlemix.mixing.costs import block_saliency, cells_of_blocks, mask_costs
from puzzlemix.mixing.cut import SOLVERS, solve_mask
from puzzlemix.mixing.losses import LOSSES, weight_of_cross_entropy
from puzzlemix.mixing.parallel import backend_for, launching_on
from puzzlemix.mixing.saliency import input_gradient, input_gradient_and_backward, saliency_of
from puzzlemix.mixing.swap import check_beta
from puzzlemix.mixing.transport import PLANS, transport_grid, transport_plan
from puzzlemix.runtime.errors import require, require_choice, require_number, require_whole


@dataclass(frozen=True, kw_only=True)  # nine of them, which could be swapped unnoticed
class PuzzleParameters:
    """How images are mixed, whatever the images.

    Args:
        beta: label smoothness of the mask, 0 or more.
        gamma: data smoothness, in [0, 1]; above only with `solver="swap"`.
        eta: weight of the prior that draws the share towards lam, 0 or more.
        neigh_size: pixels a side averaged before borders are compared.
        n_labels: m, mask values 0, 1/(m-1), ..., 1; 2 to 256.
        transport: move salient blocks by the released auction (True) or for the least cost ("exact", SciPy on the CPU);
            False mixes in place.
        t_eps: xi, cost of a move across the whole image, in saliency shares.
        t_size: pixels a side of the cells that move where the mask's blocks are larger; None moves the mask's blocks.
        solver: "exact", the mask of least energy, or "swap", the released search for it.

    Raises:
        InputError: one is out of range.
    """

    beta: float = 1.2
    gamma: float = 0.5
    eta: float = 0.2
    neigh_size: int = 4
    n_labels: int = 3
    transport: bool | str = True
    t_eps: float = 0.8
    t_size: int | None = None
    solver: str = "exact"

    def __post_init__(self) -> None:
        for name in ("beta", "gamma", "eta", "t_eps"):
            require_number(name, getattr(self, name))
        require_whole("neigh_size", self.neigh_size, least=1)
        require_whole("n_labels", self.n_labels, least=2, most=256)  # as many values as a pixel has
        if self.t_size is not None:
            require_whole("t_size", self.t_size, least=1)
        require_choice("solver", self.solver, SOLVERS)
        fits = self.gamma <= 1 or self.solver == "swap"  # above 1 a weight could be negative
        require(fits, f"gamma must lie in [0, 1], not {self.gamma}: only solver=swap takes more")
        known = isinstance(self.transport, bool) or str(self.transport) in PLANS
        require(known, f"transport must be true, false, or one of {', '.join(PLANS)}, not {self.transport}")

    def check_grid(self, grid: Grid, height: int, width: int) -> None:
        """Raise `InputError` where masks of this grid cannot be made for images of this size, in pixels."""
        fits = 1 <= grid[0] <= height and 1 <= grid[1] <= width
        pixels, blocks = f"{height} x {width} pixels", f"{grid[0]} x {grid[1]} blocks"
        require(fits, f"images of {pixels} are smaller than a grid of {blocks}: use fewer blocks")
        if self.solver == "swap":
            check_beta(self.beta, grid)


class PuzzleMix(PairMixer):
    """Puzzle Mix for any training loop.

        mix = PuzzleMix(num_classes=100)
        mixed, targets = mix(model, images, labels)  # after optimizer.zero_grad(), before the forward pass

    The call changes nothing: not the model's modes, gradients or batch norm statistics, not the tensors given, not the
    random state of torch, numpy or Python. With `clean_lam > 0` it is a training pass: it leaves parameter gradients to
    which the backward pass of the mixed loss adds (so zero them before the call; a GradScaler would divide them by its
    scale), moves batch norm statistics once more, and draws dropout. It looks inside DDP, DataParallel, torch.compile.

    Args:
        alpha: lam ~ Beta(alpha, alpha), one a (global) batch.
        blocks: grids to draw from, each blocks a side or a pair (down, across), one a (global) batch; or a single
            number of blocks a side. `(2, 5)` draws 2 or 5 a side, `((2, 5),)` is always 2 down and 5 across.
        clean_lam: weight of the loss on unmixed images; 0 takes saliency in eval mode and leaves no gradients.
        loss: name in `losses.LOSSES` of the loss on the mixed images; it decides the scale of that on unmixed ones.
        clean_until_epoch: `clean_lam` counts as 0 from this `epoch` on, which the loop sets; None never, as released.
        adv_p: probability, for each image of a pair, of stochastic adversarial noise on that side, one toss a batch.
        adv_eps: bound of the noise, in 1/255 of the pixel range.
        adv_shared_coin: toss one coin for both images of a pair instead of two, nu0 = nu1 in the paper's Table 8.
        adv_decay: shrink the noise by a number from U(0, 1), one a batch, as released; without it, Table 8's "fgsm".
        num_classes: K of the targets.
        prob: probability that a batch is mixed at all.
        per_sample: draw lam for each image of a batch rather than once for all of them.
        mean, std: None where images are pixels in [0, 1] and the model normalises; else what they come normalised
            with, channel by channel, and the mixed ones are normalised likewise.
        **parameters: of `PuzzleParameters`: beta, gamma, eta, neigh_size, n_labels, transport, t_eps, t_size, solver.

    Raises:
        InputError: (a ValueError) on a parameter out of range.
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
        prob: float = 1.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        clean_until_epoch: int | None = None,
        loss: str = "bce_on_softmax",
        per_sample: bool = False,
        adv_shared_coin: bool = False,
        adv_decay: bool = True,
        **parameters: Any,
    ):
        super().__init__(alpha, num_classes=num_classes, prob=prob)
        self.parameters = PuzzleParameters(**parameters)
        require_number("clean_lam", clean_lam)
        require_choice("loss", loss, LOSSES)
        require_number("adv_p", adv_p, 0, 1)
        require_number("adv_eps, in 1/255 of the pixel range,", adv_eps, 0, 255)
        if clean_until_epoch is not None:
            require_whole("clean_until_epoch", clean_until_epoch, least=0)
        for flag in (per_sample, adv_shared_coin, adv_decay):
            require(isinstance(flag, bool), f"per_sample, adv_shared_coin, adv_decay must be true or false, not {flag}")
        require((mean is None) == (std is None), "give both mean and std, or neither")
        self.blocks = as_grids(blocks)
        self.clean_weight = clean_lam * weight_of_cross_entropy(loss, num_classes)
        self.clean_until_epoch, self.per_sample = clean_until_epoch, per_sample
        self.adv_p, self.adv_eps, self.adv_shared_coin, self.adv_decay = adv_p, adv_eps, adv_shared_coin, adv_decay
        self.mean, self.std = (None, None) if mean is None else per_channel(mean, std)

    @property
    def needs_clipped(self) -> bool:
        return self.adv_p > 0 or super().needs_clipped

    def check(self, network: nn.Module, height: int, width: int) -> None:
        for grid in self.blocks:
            self.parameters.check_grid(grid, height, width)

    def check_given(self, given: Mapping[str, Any], images: Tensor) -> None:
        super().check_given(given, images)
        if "blocks" in given:
            self.parameters.check_grid(as_grid(given["blocks"]), *images.shape[2:])
        if "noisy" in given:
            check_noisy(given["noisy"])
        if "start_noise" in given:
            check_tensor("start_noise", given["start_noise"], images, images.shape)
        if "noise_scale" in given:
            require_number("noise_scale", given["noise_scale"], 0, 1)

    def draw(self, images: Tensor, given: Mapping[str, Any]) -> dict[str, Any]:
        """Also `blocks`, two coins `noisy`, for the first images and for partners, and the noise where one is up."""
        if "blocks" not in given:
            for grid in self.blocks:  # rather than once the one that does not fit is drawn
                self.parameters.check_grid(grid, *images.shape[2:])
        drawn = super().draw(images, given) | {"blocks": self.draws.choice(self.blocks)}
        first = self.draws.coin(self.adv_p)
        drawn["noisy"] = first, first if self.adv_shared_coin else self.draws.coin(self.adv_p)
        if self.per_sample:
            drawn["lam"] = self.draws.betas(self.alpha, len(images), images.device)
        if any(given.get("noisy", drawn["noisy"])):
            drawn |= self.draw_noise(images)
        return drawn

    def draw_noise(self, images: Tensor) -> dict[str, Any]:
        """`noise_scale`, from U(0, 1), or 1 without `adv_decay`, and `start_noise`, U(-adv_eps, adv_eps) / 255."""
        scale, eps = self.draws.uniform() if self.adv_decay else 1.0, self.adv_eps / 255
        return {"noise_scale": scale, "start_noise": self.draws.uniform_like(images, -eps, eps)}

    def mix(self, model: nn.Module, images: Tensor, labels: Tensor, drawn: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The mixed images, (B, C, H, W), and targets (B, K): saliency, the plan of each pair, assembly."""
        lam, partner, noisy, grid = drawn["lam"], drawn["partner"], drawn["noisy"], as_grid(drawn["blocks"])
        pixels, noise, seen = self._to_pixels(images), None, images
        if any(noisy):
            noise = self.noise_before_saliency(model, pixels, labels, drawn)
            seen = self._from_pixels(pixels + noise).to(images.dtype)
        with self.stopwatch("saliency"):
            gradient = self._gradient(model, seen, labels)  # (B, C, H, W)
            saliency = saliency_of(gradient, model)  # (B, H, W)
        with torch.no_grad():
            share, mask, sources, uniform = plan_pairs(pixels, saliency, partner, lam, grid, self.parameters)
            self.count("uniform_saliency", uniform)
            if noise is not None:
                noise = self.noise_after_saliency(noise, gradient, drawn)
            first, second = _with_noise(pixels, noise, noisy)
            mixed = assemble(first, second, partner, mask, sources)
            return _in_the_format_of(images, self._from_pixels(mixed)), self.mixed_targets(labels, partner, share)

    def _gradient(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Input gradient (B, C, H, W), from the clean-regularised pass while that is on."""
        over = self.clean_until_epoch is not None and self.epoch >= self.clean_until_epoch
        if self.clean_weight > 0 and not over:
            return input_gradient_and_backward(model, images, labels, self.clean_weight)
        return input_gradient(model, images, labels)

    def noise_before_saliency(
        self, model: nn.Module, pixels: Tensor, labels: Tensor, drawn: Mapping[str, Any]
    ) -> Tensor:
        """The noise that the saliency is taken at, (B, C, H, W): uniform within adv_eps / 255."""
        return (pixels + drawn["start_noise"]).clamp(0, 1) - pixels

    def noise_after_saliency(self, noise: Tensor, gradient: Tensor, drawn: Mapping[str, Any]) -> Tensor:
        """One sign step of (adv_eps + 2) / 255 from it, clipped to adv_eps / 255, shrunk by a scale."""
        eps, step = self.adv_eps / 255, (self.adv_eps + 2) / 255
        return (noise + step * gradient.nan_to_num(0).sign()).clamp(-eps, eps) * drawn["noise_scale"]

    def _to_pixels(self, images: Tensor) -> Tensor:
        """Of half precision, normalised, in float32."""
        if self.mean is None:
            return images
        fit = len(self.mean) in (1, images.shape[1])
        require(fit, f"mean and std are of {len(self.mean)} channels, but the images have {images.shape[1]}")
        self.mean, self.std = self.mean.to(images.device), self.std.to(images.device)  # once: a GPU is waited for
        return images * self.std + self.mean

    def _from_pixels(self, pixels: Tensor) -> Tensor:
        return pixels if self.mean is None else (pixels - self.mean) / self.std


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
    parameters: PuzzleParameters | None = None,
    **values: Any,
) -> Puzzle:
    """Puzzle Mix of every image with its partner, the saliency given. Nothing is random, nothing is changed in place.

    Args:
        images: x (B, C, H, W), pixels in [0, 1], of any floating dtype, memory format and number of channels; half
            precision is worked on in float32.
        saliency: s (B, H, W), not negative, in any scale; an image whose sum is 0 or not finite mixes as if uniform.
        partner: (B,) int64, each image's partner in the batch.
        lam: wanted share of the first image, in [0, 1]; (B,) for one an image.
        blocks: n, blocks a side of the mask, or (down, across).
        noise: (B, C, H, W), added (and clipped to [0, 1]) to a side that is `noisy` once the mask is solved.
        noisy: whether the first image and its partner carry the noise, in the adversarial variant.
        parameters: beta, gamma and the rest; None to give some of them as keywords.
        **values: of `PuzzleParameters`.

    Returns:
        A `Puzzle`.

    Raises:
        InputError: (a ValueError) on a parameter out of range, shapes, dtypes or devices that do not fit, or more
            blocks than pixels. Values are checked on a CPU; on a GPU, which would have to be waited for, only where the
            environment has PUZZLEMIX_DEBUG=1.

    Source: `mixup_graph` of the authors' release, function by function the paper's section on the method.
    """
    require(parameters is None or not values, f"give parameters= or {', '.join(values)}, not both")
    parameters = parameters or PuzzleParameters(**values)
    check_pairs(images, saliency, partner, lam, noise, noisy)
    grid = as_grid(blocks)
    parameters.check_grid(grid, *images.shape[2:])

    share, mask, sources, uniform = plan_pairs(images, saliency, partner, lam, grid, parameters)
    first, second = _with_noise(images, noise, noisy)
    mixed = assemble(first, second, partner, mask, sources)
    return Puzzle(_in_the_format_of(images, mixed), share, mask, sources, uniform)


def plan_pairs(
    images: Tensor, saliency: Tensor, partner: Tensor, lam: float | Tensor, grid: Grid, parameters: PuzzleParameters
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """How to mix every pair, by costs, cut and transport: `share`, `mask`, `sources` and `uniform` of a `Puzzle`."""
    given, size = images.device, images.shape[2:]
    place = given if backend_for(images) else torch.device("cpu")  # for a device that is neither CPU nor GPU
    images, saliency = (_full_precision(values).to(place) for values in (images, saliency))
    partner, lam = (values.to(place) if isinstance(values, Tensor) else values for values in (partner, lam))
    with launching_on(place):
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
    """The images as the first of a pair and as a partner, each with the noise on if it is noisy, in full precision."""
    images = _full_precision(images)
    perturbed = (images + _full_precision(noise)).clamp(0, 1) if any(noisy) else images
    return tuple(perturbed if is_noisy else images for is_noisy in noisy)


def _in_the_format_of(given: Tensor, images: Tensor) -> Tensor:
    """Images in the dtype of those given, and channels last where they are."""
    channels_last = given.is_contiguous(memory_format=torch.channels_last) and not given.is_contiguous()
    return images.to(given.dtype, memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _full_precision(values: Tensor) -> Tensor:
    """float16 and bfloat16 as float32, apart from any graph."""
    return values.detach().float() if values.element_size() < 4 else values.detach()
