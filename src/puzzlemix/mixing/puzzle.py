"""Puzzle Mix (Kim, Choo, Song, ICML 2020): mix two images so that both stay recognisable.

A mask shows each image where it is salient (a graph cut over blocks), and each image's salient blocks move to where the
mask shows it (transport). One batch is: draw; saliency (`saliency.py`); costs, cut, transport and assembly
(`puzzle_steps.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from puzzlemix.mixing.base import PairMixer
from puzzlemix.mixing.blocks import Grid, as_grid, as_grids
from puzzlemix.mixing.checks import check_noisy, check_tensor
from puzzlemix.mixing.losses import LOSSES, weight_of_cross_entropy
from puzzlemix.mixing.puzzle_parameters import PuzzleParameters
from puzzlemix.mixing.puzzle_steps import mix_checked
from puzzlemix.mixing.saliency import input_gradient, input_gradient_and_backward, saliency_of
from puzzlemix.runtime.errors import require, require_choice, require_number, require_whole


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
        beta, gamma, eta, neigh_size, n_labels, transport, t_eps, t_size, solver: see `PuzzleParameters`.
        clean_lam: weight of the loss on unmixed images; 0 takes saliency in eval mode and leaves no gradients.
        loss: name in `losses.LOSSES` of the loss on the mixed images, which that one is brought to the scale of.
        clean_until_epoch: from this `epoch` on, an attribute that the loop sets, `clean_lam` counts as 0; None never,
            as released.
        adv_p: probability, for each image of a pair, of stochastic adversarial noise on that side, one toss a batch.
        adv_eps: bound of the noise, in 1/255 of the pixel range.
        adv_shared_coin: toss one coin for both images of a pair instead of two, nu0 = nu1 in the paper's Table 8.
        adv_decay: shrink the noise by a number from U(0, 1), one a batch, as released. Without it the noise is a step
            of FGSM, "fgsm" in Table 8.
        num_classes: K of the targets.
        prob: probability that a batch is mixed at all.
        per_sample: draw lam for each image of a batch rather than once for all of them.
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
        adv_shared_coin: bool = False,
        adv_decay: bool = True,
    ):
        super().__init__(alpha, num_classes=num_classes, prob=prob)
        self.parameters = PuzzleParameters(
            beta=beta,
            gamma=gamma,
            eta=eta,
            neigh_size=neigh_size,
            n_labels=n_labels,
            transport=transport,
            t_eps=t_eps,
            t_size=t_size,
            solver=solver,
        )
        require_number("clean_lam", clean_lam)
        require_choice("loss", loss, LOSSES)
        require_number("adv_p", adv_p, 0, 1)
        require_number("adv_eps, in 1/255 of the pixel range,", adv_eps, 0, 255)
        if clean_until_epoch is not None:
            require_whole("clean_until_epoch", clean_until_epoch, least=0)
        flags = {"per_sample": per_sample, "adv_shared_coin": adv_shared_coin, "adv_decay": adv_decay}
        for name, value in flags.items():
            require(isinstance(value, bool), f"{name} must be true or false, not {value}")
        require((mean is None) == (std is None), "give both mean and std, or neither")
        self.blocks = as_grids(blocks)
        self.clean_weight = clean_lam * weight_of_cross_entropy(loss, num_classes)
        self.clean_until_epoch, self.per_sample = clean_until_epoch, per_sample
        self.adv_p, self.adv_eps = adv_p, adv_eps
        self.adv_shared_coin, self.adv_decay = adv_shared_coin, adv_decay
        self.mean, self.std = (None, None) if mean is None else _of_channels(mean, std)

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
        """Also `blocks`, the two coins `noisy`, and, where one is up, `noise_scale` and `start_noise`."""
        if "blocks" not in given:
            for grid in self.blocks:  # rather than once the one that does not fit is drawn
                self.parameters.check_grid(grid, *images.shape[2:])
        drawn = super().draw(images, given) | {"blocks": self.draws.choice(self.blocks), "noisy": self._coins()}
        if self.per_sample:
            drawn["lam"] = self.draws.betas(self.alpha, len(images), images.device)
        if any(given.get("noisy", drawn["noisy"])):
            drawn |= self.draw_noise(images)
        return drawn

    def draw_noise(self, images: Tensor) -> dict[str, Any]:
        """`noise_scale`, from U(0, 1), or 1 without `adv_decay`, and `start_noise`, U(-adv_eps, adv_eps) / 255."""
        eps = self.adv_eps / 255
        scale = self.draws.uniform() if self.adv_decay else 1.0
        return {"noise_scale": scale, "start_noise": self.draws.uniform_like(images, -eps, eps)}

    def mix(self, model: nn.Module, images: Tensor, labels: Tensor, drawn: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        pixels, noise, seen = self._to_pixels(images), None, images
        if any(drawn["noisy"]):
            noise = self.noise_before_saliency(model, pixels, labels, drawn)
            seen = self._from_pixels(pixels + noise).to(images.dtype)
        with self.stopwatch("saliency"):
            gradient = self._gradient(model, seen, labels)
            saliency = saliency_of(gradient, model)  # (B, H, W)
        with torch.no_grad():
            if noise is not None:
                noise = self.noise_after_saliency(noise, gradient, drawn)
            lam, partner, blocks, noisy = (drawn[k] for k in ("lam", "partner", "blocks", "noisy"))
            puzzle = mix_checked(pixels, saliency, partner, lam, blocks, noise, noisy, self.parameters)
            self.count("uniform_saliency", puzzle.uniform)
            return self._from_pixels(puzzle.images).to(images.dtype), self.mixed_targets(labels, partner, puzzle.share)

    def _gradient(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Input gradient (B, C, H, W), from the clean-regularised pass while that is on."""
        over = self.clean_until_epoch is not None and self.epoch >= self.clean_until_epoch
        if self.clean_weight == 0 or over:
            return input_gradient(model, images, labels)
        return input_gradient_and_backward(model, images, labels, self.clean_weight)

    def noise_before_saliency(
        self, model: nn.Module, pixels: Tensor, labels: Tensor, drawn: Mapping[str, Any]
    ) -> Tensor:
        """The noise that the saliency is taken at, (B, C, H, W): uniform within adv_eps / 255."""
        return (pixels + drawn["start_noise"]).clamp(0, 1) - pixels

    def noise_after_saliency(self, noise: Tensor, gradient: Tensor, drawn: Mapping[str, Any]) -> Tensor:
        """One sign step of (adv_eps + 2) / 255 from it, clipped to adv_eps / 255, shrunk by a scale."""
        eps, step = self.adv_eps / 255, (self.adv_eps + 2) / 255
        return (noise + step * gradient.nan_to_num(0).sign()).clamp(-eps, eps) * drawn["noise_scale"]

    def _coins(self) -> tuple[bool, bool]:
        """Whether the first image of each pair carries noise, and whether its partner does."""
        first = self.draws.coin(self.adv_p)
        return first, first if self.adv_shared_coin else self.draws.coin(self.adv_p)

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


def _of_channels(mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Both (C, 1, 1) float32.

    Raises:
        InputError: they are not a number a channel, those of std above 0.
    """
    try:
        mean_c, std_c = (torch.as_tensor(v, dtype=torch.float32, device="cpu").view(-1, 1, 1) for v in (mean, std))
        fits = len(mean_c) == len(std_c) > 0 and bool((std_c > 0).all() and mean_c.isfinite().all())
    except (TypeError, ValueError, RuntimeError):  # what torch says of what is no list of numbers
        fits = False
    require(fits, f"mean and std must have a number a channel, std above 0, not {mean} and {std}")
    return mean_c, std_c
