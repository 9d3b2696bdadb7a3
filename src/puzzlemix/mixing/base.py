"""The contract of all mixing methods: a mixer turns a batch into the network's input and its soft targets.

    mixed, targets = mixer(model, images, labels)
    loss = mixer.loss(criterion, model(mixed), targets)

The training loop never asks which method it calls. A method draws the random numbers of a batch in `draw` and uses them
in `mix`. The caller can give any of them by keyword instead, so that a test needs no seed:
`mixer(model, images, labels, lam=0.3, partner=permutation)`.

In every method `lam` is the wanted share of the FIRST image. The targets follow the share that was really mixed.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from math import inf
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from puzzlemix.mixing.assembly import assemble
from puzzlemix.mixing.draws import Draws
from puzzlemix.mixing.models import Loss, Model, scores_of
from puzzlemix.runtime import distributed
from puzzlemix.runtime.errors import (
    OVERSHOOT,
    require,
    require_choice,
    require_number,
    require_pixels,
    require_whole,
    values_are_checked,
)
from puzzlemix.runtime.stopwatch import untimed


class Mixer:
    """Base class of all methods. It mixes nothing: it returns the images and one-hot targets.

    Attributes:
        draws: the random streams. Call `mixer.draws.seed(seed, epoch)` at the start of every epoch: the draws then
            depend on these two numbers alone, also when training resumes from a checkpoint.
        enabled: set it to False to get batches back unmixed.
        epoch: set by the training loop, for methods that change during training.
        last: what the last batch was mixed with, by name: the draws, such as `lam` and `partner`; `share` of the first
            images, a number or (B,); `mask` and `sources` as in `puzzle.Puzzle`. It is empty if nothing was mixed.
        stopwatch: a training loop may set it, to measure the seconds of the "saliency" pass.
        overshoot: how far pixels may lie outside [0, 1]; 0 in methods that attack or augment images.
        counts: how often the method repaired its input, as tensors, so that counting does not wait for a GPU.

    Args:
        num_classes: K, the number of classes; 1 for a model with one score.
        prob: probability that a batch is mixed at all.
        until_epoch: from this `epoch` on, nothing is mixed; None: never.

    Raises:
        InputError: (a ValueError) a parameter is out of range.
    """

    given_names: tuple[str, ...] = ()  # the draws that a caller may replace
    overshoot = OVERSHOOT

    def __init__(self, *, num_classes: int, prob: float = 1.0, until_epoch: int | None = None):
        require_whole("num_classes", num_classes, least=1)
        require_number("prob", prob, 0, 1)
        if until_epoch is not None:
            require_whole("until_epoch", until_epoch, least=0)
        self.num_classes, self.prob, self.until_epoch = num_classes, prob, until_epoch
        self.draws, self.enabled, self.epoch = Draws(), True, 0
        self.last: dict[str, Any] = {}
        self.stopwatch: Callable[[str], AbstractContextManager[None]] = untimed
        self.counts: dict[str, Tensor] = {}
        self._has_seen_values = False

    def __call__(self, model: Model, images: Tensor, labels: Tensor, **given: Any) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            model: the network in training; it may be wrapped in DDP.
            images: (B, C, H, W), floating point pixels in [0, 1]; there may be more dimensions after C, such as time.
            labels: (B,), whole numbers; or shares (B, K), floating point, for soft or several labels.
            **given: any of `given_names`, each in place of a random draw.

        Returns:
            The network's input, (B, C, H, W), and soft targets, (B, K) float32. A batch that is not mixed, because of
            `prob` or because it is a single image, comes back unchanged. Methods that add views of the images append
            them, (V B, C, H, W); the targets are those of the first B.

        Raises:
            InputError: an unknown keyword, or input that the method cannot mix. Values of pixels and labels are checked
                in every batch on a CPU. On a GPU the check synchronises with the host, so it stops after the first
                batch that passes it, unless the environment has PUZZLEMIX_DEBUG=1.
        """
        if torch.compiler.is_compiling():  # it cannot trace our loops; its decorator would take 2 s to import
            return torch.compiler.disable(self.__call__)(model, images, labels, **given)
        for name in given:
            require_choice("argument", name, self.given_names)
        images, labels = plain_tensor("images", images), plain_tensor("labels", labels)
        self._check_batch(images, labels)
        self.check_given(given, images)
        targets, self.last = self.targets_of(labels), {}
        is_over = self.until_epoch is not None and self.epoch >= self.until_epoch
        if self.enabled and not is_over and self.draws.coin(self.prob):
            drawn = {**self.draw(images, given), **given}  # drawn for one image too: other processes may have more
            if len(images) > 1:
                self.last = {**drawn}
                return self.mix(model, images, targets, drawn)
        return images, targets

    def loss(self, criterion: Loss, logits: Any, targets: Tensor) -> Tensor:
        """The training loss, (): `criterion(logits, targets)` plus own terms.

        The logits are (B, K) or (V B, K), or an output of the model that `models.scores_of` takes them from.
        """
        return criterion(scores_of(logits), targets)

    def mix_again(self, values: Tensor) -> Tensor:
        """Mix other values (B, ..., H, W) as the last batch was mixed, such as a second input or one-hot masks."""
        return values

    @property
    def needs_clipped(self) -> bool:
        """Whether the method attacks or augments images, so that pixels must lie in [0, 1]."""
        return self.overshoot == 0

    def check(self, network: nn.Module, height: int, width: int) -> None:
        """Raise `InputError` if this network or image size, in pixels, cannot work. Call it before training."""

    def check_given(self, given: Mapping[str, Any], images: Tensor) -> None:
        """Raise `InputError` if a value that the caller gave does not fit the images."""

    def draw(self, images: Tensor, given: Mapping[str, Any]) -> dict[str, Any]:
        """Draw the random numbers of one batch. Those that `given` holds need not be drawn."""
        return {}

    def mix(self, model: Model, images: Tensor, targets: Tensor, drawn: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The method itself, for targets (B, K). All its random numbers are in `drawn`."""
        return images, targets

    def targets_of(self, labels: Tensor) -> Tensor:
        """Labels (B,) or shares (B, K) as shares (B, K) float32."""
        if labels.is_floating_point() or self.num_classes == 1:
            return labels.float().view(len(labels), self.num_classes)
        return F.one_hot(labels.long(), self.num_classes).float()

    def mixed_targets(self, targets: Tensor, partner: Tensor, share: float | Tensor) -> Tensor:
        """share y + (1 - share) y[partner] for targets y (B, K); the share is a number or (B,)."""
        self.last["share"] = share
        return blend(targets, partner, share)

    def state_dict(self) -> dict[str, Any]:
        """The state of the random streams and the epoch: a mixer that loads it goes on with the same draws."""
        return {"draws": self.draws.state(), "epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the state that `state_dict` gave."""
        self.draws.restore(state["draws"])
        self.epoch = state["epoch"]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "last": {}}  # copies do not need the last batch

    def __repr__(self) -> str:
        state = ("draws", "enabled", "epoch", "last", "stopwatch", "counts")
        settings = {name: value for name, value in vars(self).items() if name not in state and name[0] != "_"}
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in settings.items())})"

    def _check_batch(self, images: Tensor, labels: Tensor) -> None:
        check_images(images)
        is_shares = labels.is_floating_point() and labels.ndim == 2
        shape = (len(images), self.num_classes) if is_shares else (len(images),)
        check_tensor("labels", labels, images, shape, labels.dtype)
        whole = not labels.is_floating_point() and not labels.is_complex() and labels.dtype != torch.bool
        fits = whole or is_shares or self.num_classes == 1
        require(fits, f"labels must be whole numbers (B,), or shares (B, K), not {labels.dtype}{list(labels.shape)}")
        if len(labels) and (values_are_checked(labels.device.type) or not self._has_seen_values):
            most = self.num_classes - 1 if whole and self.num_classes > 1 else 1
            require_range(f"labels, with num_classes={self.num_classes},", labels, 0, most)
            low, high = require_pixels(self._to_pixels(images), self.overshoot)
            if self.overshoot < inf and (low < -OVERSHOOT or high > 1 + OVERSHOOT):
                warn_once(f"images are pixels from {low:.3g} to {high:.3g} with this mean and std: are they erased?")
            self._has_seen_values = True

    def _to_pixels(self, images: Tensor) -> Tensor:
        """The images as pixels in [0, 1]."""
        return images

    def count(self, name: str, happened: Tensor) -> None:
        """Add the number of true values in `happened` to the count `name`."""
        self.counts[name] = self.counts.get(name, 0) + happened.sum()

    def pop_counts(self) -> dict[str, int]:
        """The counts since the last call, summed over all processes. They start again at 0."""
        counts = {name: int(distributed.sum_over_processes(value)) for name, value in self.counts.items()}
        self.counts = {}
        return counts


class PairMixer(Mixer):
    """Base class of methods that mix each image with a partner from the batch, with shares lam and 1 - lam.

    Args:
        alpha: lam ~ Beta(alpha, alpha), drawn once per global batch.
        **options: those of `Mixer`.
    """

    given_names = ("lam", "partner")

    def __init__(self, alpha: float = 1.0, **options: Any):
        super().__init__(**options)
        require(isinstance(alpha, Real) and 0 < alpha < inf, f"alpha must be a finite number above 0, not {alpha}")
        self.alpha = alpha

    def check_given(self, given: Mapping[str, Any], images: Tensor) -> None:
        check_lam(given.get("lam", 1.0), images)
        if "partner" in given:
            check_partner(given["partner"], images)

    def draw(self, images: Tensor, given: Mapping[str, Any]) -> dict[str, Any]:
        """`lam`, one number for the global batch, and `partner`, (B,), a permutation of this process's images."""
        return {"lam": self.draws.beta(self.alpha), "partner": self.draws.permutation(len(images), images.device)}

    def mix_again(self, values: Tensor) -> Tensor:
        if "mask" not in self.last:
            return blend(values, self.last["partner"], self.last["share"]) if self.last else values
        partner, mask = (self.last[name] for name in ("partner", "mask"))
        flat = values.flatten(1, -3)  # (B, ..., H, W) -> (B, C, H, W)
        return assemble(flat, flat, partner, mask, self.last.get("sources")).view_as(values)


def blend(values: Tensor, partner: Tensor, share: float | Tensor) -> Tensor:
    """share v + (1 - share) v[partner], for values v (B, ...); the share is a number or (B,)."""
    if isinstance(share, Tensor):
        share = share.to(values).view(-1, *[1] * (values.ndim - 1))  # (B, 1, ...)
    return share * values + (1 - share) * values[partner]


def per_channel(mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Mean and std as (C, 1, 1) float32. Raises `InputError` unless they have a number per channel, std above 0."""
    try:
        mean_c, std_c = (torch.as_tensor(v, dtype=torch.float32, device="cpu").view(-1, 1, 1) for v in (mean, std))
        fits = len(mean_c) == len(std_c) > 0 and bool((std_c > 0).all() and mean_c.isfinite().all())
    except (TypeError, ValueError, RuntimeError):  # what torch raises if this is not a list of numbers
        fits = False
    require(fits, f"mean and std need a number per channel each, with std above 0, or give neither, not {mean}, {std}")
    return mean_c, std_c


@cache
def warn_once(message: str) -> None:
    """Warn the user of a mixer, once in a program."""
    warnings.warn(message, stacklevel=5)


def plain_tensor(name: str, given: Tensor) -> Tensor:
    """A tensor without its subclass, whose operations may not take plain tensors; `InputError` if it is no tensor."""
    require(isinstance(given, Tensor), f"{name} must be a tensor, not {type(given).__name__}")
    return given.as_subclass(Tensor) if type(given) is not Tensor else given


def check_images(images: Tensor) -> None:
    """Raise `InputError` unless these are floating point, (B, C, ..., H, W)."""
    remedy = "images.float() / 255 are pixels" if images.dtype == torch.uint8 else "convert them"
    require(images.is_floating_point(), f"images must be floating point, not {images.dtype}: {remedy}")
    require(images.ndim >= 4, f"images must have shape (B, C, H, W), not {tuple(images.shape)}")


def check_pairs(
    images: Tensor, saliency: Tensor, partner: Tensor, lam: float | Tensor, noise: Tensor | None, noisy: Sequence[bool]
) -> None:
    """Raise `InputError` unless `puzzle_mix` can mix these."""
    plain_tensor("images", images)
    check_images(images)
    require(images.numel() > 0, f"images of shape {tuple(images.shape)} hold no pixels")
    check_tensor("saliency", saliency, images, (len(images), *images.shape[-2:]))
    check_partner(partner, images)
    check_lam(lam, images)
    check_noisy(noisy)
    if noise is not None:
        check_tensor("noise", noise, images, images.shape)
    require(noise is not None or not any(noisy), "noisy needs noise: give noise=, a tensor of the images' shape")
    if values_are_checked(images.device.type):
        require_pixels(images, OVERSHOOT)
        least = float(saliency.nan_to_num(0).min())
        require(least >= 0, f"saliency must be 0 or more, not {least:.3g}: take its magnitude")


def check_partner(partner: Tensor, images: Tensor) -> None:
    """Raise `InputError` unless this is (B,) int64, the index of each image's partner in the batch."""
    check_tensor("partner", partner, images, images.shape[:1], torch.int64)
    if values_are_checked(partner.device.type):
        require_range("partner", partner, 0, len(images) - 1)


def check_lam(lam: float | Tensor, images: Tensor) -> None:
    """Raise `InputError` unless this is a number in [0, 1], or (B,) with such a number for each image."""
    if not isinstance(lam, Tensor):
        return require_number("lam", lam, 0, 1)
    check_tensor("lam, as a tensor,", lam, images, images.shape[:1])
    if values_are_checked(lam.device.type):
        require_range("lam", lam, 0, 1)


def check_noisy(noisy: Sequence[bool]) -> None:
    """Raise `InputError` unless these are two booleans, for the first image of each pair and for its partner."""
    fits = isinstance(noisy, tuple | list) and [type(side) for side in noisy] == [bool, bool]
    require(fits, f"noisy must be two booleans, for the first and the second image, such as (True, False), not {noisy}")


def check_tensor(
    name: str, given: Tensor, images: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None
) -> None:
    """Raise `InputError` unless it is a tensor of this shape and dtype (None: floating point) on the images' device."""
    require(isinstance(given, Tensor), f"{name} must be a tensor, not {type(given).__name__}")
    require(given.shape == tuple(shape), f"{name} must have shape {tuple(shape)}, not {tuple(given.shape)}")
    same = given.device == images.device
    require(same, f"{name} must be on the images' device, {images.device}, not {given.device}")
    fits = given.is_floating_point() if dtype is None else given.dtype == dtype
    require(fits, f"{name} must be {dtype or 'floating point'}, not {given.dtype}")


def require_range(name: str, given: Tensor, least: float, most: float) -> None:
    """Raise `InputError` unless all values lie in [least, most]. On a GPU this synchronises with the host."""
    low, high = (end.item() for end in given.detach().aminmax()) if len(given) else (least, most)  # NaN if any value is
    require(least <= low <= high <= most, f"{name} must lie in [{least}, {most}], not from {low} to {high}")
