"""What every mixing method is: a callable that turns a batch into what the network sees and what it should answer.

    mixed, targets = mixer(model, images, labels)
    loss = mixer.loss(criterion, model(mixed), targets)

The loop that calls it never asks which method it is. A method draws the batch's random numbers in `draw` and uses them
in `mix`; whatever it draws can be given by keyword instead, so that a test fixes it without seeding:
`mixer(model, images, labels, lam=0.3, partner=permutation)`.

Throughout, `lam` is the wanted share of the FIRST image, and the targets use the share that was really mixed.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from math import inf
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from puzzlemix.mixing.draws import Draws
from puzzlemix.runtime import distributed
from puzzlemix.runtime.errors import (
    OVERSHOOT,
    InputError,
    nearest,
    require,
    require_number,
    require_pixels,
    require_whole,
    values_are_looked_at,
)
from puzzlemix.runtime.stopwatch import untimed

Loss = Callable[[Tensor, Tensor], Tensor]


class Mixer:
    """Base of all methods, and by itself the vanilla one: images as they are, one-hot targets.

    Attributes:
        draws: the random streams. They start at the first batch from the seed that torch has then, so that two mixers
            draw the same, and a program that goes on from a checkpoint draws its first batches' numbers again: call
            `mixer.draws.seed(seed, epoch)` at the start of every epoch, which makes them follow from that alone.
        epoch: set by the loop; for methods that change during training.
        stopwatch: takes the seconds of the "saliency" pass where a loop sets its own.
        overshoot: how far pixels may lie outside [0, 1]; 0 for methods that attack or augment them.
        counts: what went wrong and was mended, summed until `pop_counts`, as tensors, so that no GPU waits.
    """

    given_names: tuple[str, ...] = ()  # what `draw` draws and a caller may give instead
    overshoot = OVERSHOOT

    def __init__(self, *, num_classes: int, prob: float = 1.0):
        """
        Args:
            num_classes: K of the targets.
            prob: probability that a batch is mixed at all.

        Raises:
            InputError: (a ValueError) on a parameter out of range.
        """
        require_whole("num_classes", num_classes, least=2)
        require_number("prob", prob, 0, 1)
        self.num_classes, self.prob = num_classes, prob
        self.draws = Draws()
        self.epoch = 0
        self.stopwatch: Callable[[str], AbstractContextManager[None]] = untimed
        self.counts: dict[str, Tensor] = {}
        self._has_seen_values = False

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, **given: Any) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            model: the network in training; DDP-wrapped or not.
            images: (B, C, H, W), floating point pixels in [0, 1].
            labels: (B,) int64.
            **given: any of `given_names`, used instead of a random draw.

        Returns:
            The images to feed `model`, (B, C, H, W), and soft targets, (B, K) float. A batch that is not mixed, by
            `prob` or because it is a single image, comes back as it is. Methods that add views of the images append
            them, (V B, C, H, W); the first B are those of the targets.

        Raises:
            InputError: on an unknown keyword, or input that the method cannot mix. Pixels and labels are looked at in
                every batch on a CPU; on a GPU, which has to wait for that, only until one batch has passed, or always
                where the environment has PUZZLEMIX_DEBUG=1.
        """
        for name in sorted(set(given) - set(self.given_names)):
            raise InputError(f"unknown argument '{name}'{nearest(name, self.given_names)}")
        self._check_batch(images, labels)
        self.check_given(given, images)
        if self.draws.coin(self.prob):
            drawn = {**self.draw(images, given), **given}  # of a single image too: other processes may have more
            if len(images) > 1:
                return self.mix(model, images, labels, drawn)
        return images, self.one_hot(labels)

    def loss(self, criterion: Loss, logits: Tensor, targets: Tensor) -> Tensor:
        """What training minimises, (): the loss of the logits against the targets, and what a method adds to it.

        Args:
            criterion: of logits (B, K) and targets (B, K).
            logits: of all images that the method gave, (B, K) or (V B, K).
            targets: (B, K).
        """
        return criterion(logits, targets)

    @property
    def needs_clipped(self) -> bool:
        """Whether it attacks or augments images, whose pixels then have to lie in [0, 1]."""
        return self.overshoot == 0

    def check(self, network: nn.Module, height: int, width: int) -> None:
        """Raise `InputError` where it cannot mix images of this size, in pixels, for this network: ask it first."""

    def check_given(self, given: Mapping[str, Any], images: Tensor) -> None:
        """Raise `InputError` where what is given instead of a draw does not fit the images."""

    def draw(self, images: Tensor, given: Mapping[str, Any]) -> dict[str, Any]:
        """The random numbers of one batch; what stands in `given` need not be drawn."""
        return {}

    def mix(self, model: nn.Module, images: Tensor, labels: Tensor, drawn: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The method itself, with everything random in `drawn`."""
        return images, self.one_hot(labels)

    def one_hot(self, labels: Tensor) -> Tensor:
        """(B,) int64 -> (B, K) float32."""
        return F.one_hot(labels, self.num_classes).float()

    def mixed_targets(self, labels: Tensor, partner: Tensor, share: float | Tensor) -> Tensor:
        """share onehot(y) + (1 - share) onehot(y[partner]); share a number or (B,), of the first image. (B, K)."""
        return blend(self.one_hot(labels), partner, share)

    def _check_batch(self, images: Tensor, labels: Tensor) -> None:
        """Raise `InputError` unless these are images and a class for each; where values are looked at, their range."""
        check_images(images)
        require(isinstance(labels, Tensor), f"labels must be a tensor, not {type(labels).__name__}")
        fits = labels.dtype == torch.int64 and labels.shape == images.shape[:1] and labels.device == images.device
        given = f"{tuple(labels.shape)} {labels.dtype} on {labels.device}"
        require(fits, f"labels must be classes, ({len(images)},) torch.int64 on {images.device}, not {given}")
        if len(labels) and (values_are_looked_at(labels.device.type) or not self._has_seen_values):
            low, high = int(labels.min()), int(labels.max())
            in_range = low >= 0 and high < self.num_classes
            require(in_range, f"labels must lie in [0, num_classes - 1 = {self.num_classes - 1}], not {low} to {high}")
            require_pixels(self._to_pixels(images), self.overshoot)
            self._has_seen_values = True

    def _to_pixels(self, images: Tensor) -> Tensor:
        """The images as pixels in [0, 1]."""
        return images

    def count(self, name: str, happened: Tensor) -> None:
        """Add the number of true values in `happened` to the count `name`."""
        self.counts[name] = self.counts.get(name, 0) + happened.sum()

    def pop_counts(self) -> dict[str, int]:
        """The counts of all processes since the last call; they start again at 0."""
        counts = {name: int(distributed.sum_over_processes(value)) for name, value in self.counts.items()}
        self.counts = {}
        return counts


class PairMixer(Mixer):
    """A method that mixes each image with a partner of the batch, in one share lam ~ Beta(alpha, alpha) a batch."""

    given_names = ("lam", "partner")

    def __init__(self, alpha: float = 1.0, *, num_classes: int, prob: float = 1.0):
        """As `Mixer`'s, and `alpha`: lam ~ Beta(alpha, alpha), one a (global) batch."""
        super().__init__(num_classes=num_classes, prob=prob)
        require(isinstance(alpha, Real) and 0 < alpha < inf, f"alpha must be a finite number above 0, not {alpha}")
        self.alpha = alpha

    def check_given(self, given: Mapping[str, Any], images: Tensor) -> None:
        if "lam" in given:
            check_lam(given["lam"], images)
        if "partner" in given:
            check_partner(given["partner"], images)

    def draw(self, images: Tensor, given: Mapping[str, Any]) -> dict[str, Any]:
        """`lam`, one for the global batch, and `partner`, a permutation of this process's images (B,)."""
        return {"lam": self.draws.beta(self.alpha), "partner": self.draws.permutation(len(images), images.device)}


def blend(values: Tensor, partner: Tensor, share: float | Tensor) -> Tensor:
    """share v + (1 - share) v[partner] of images, hidden states or one-hot labels, (B, ...); share a number or (B,)."""
    share = per_image(share, values)
    return share * values + (1 - share) * values[partner]


def per_image(numbers: float | Tensor, images: Tensor) -> float | Tensor:
    """Numbers (B,), one an image, as (B, 1, ...), which multiply images of as many dimensions; one number as it is."""
    return numbers.to(images).view(-1, *[1] * (images.ndim - 1)) if isinstance(numbers, Tensor) else numbers


def per_channel(mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
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


def check_lam(lam: float | Tensor, images: Tensor) -> None:
    """Raise `InputError` unless it is a number in [0, 1], or one an image; those only where values are looked at."""
    if isinstance(lam, Tensor):
        fits = lam.shape == images.shape[:1] and lam.is_floating_point() and lam.device == images.device
        wanted, given = f"({len(images)},) floating point on {images.device}", f"{tuple(lam.shape)} {lam.dtype}"
        require(fits, f"lam must be a number or {wanted}, not {given} on {lam.device}")
        if values_are_looked_at(lam.device.type) and len(lam):
            low, high = (float(end) for end in lam.detach().aminmax())
            require(0 <= low <= high <= 1, f"lam must lie in [0, 1], not from {low} to {high}")
    else:
        require_number("lam", lam, 0, 1)


def check_partner(partner: Tensor, images: Tensor) -> None:
    """Raise `InputError` unless it names an image of the batch for each; their range where values are looked at."""
    check_tensor("partner", partner, images, images.shape[:1], torch.int64)
    if values_are_looked_at(images.device.type) and len(partner):
        low, high = int(partner.min()), int(partner.max())
        valid = 0 <= low <= high < len(images)
        require(valid, f"partner must lie in [0, {len(images) - 1}], not from {low} to {high}")


def check_images(images: Tensor) -> None:
    """Raise `InputError` unless they are floating point, (B, C, H, W)."""
    require(isinstance(images, Tensor), f"images must be a tensor, not {type(images).__name__}")
    given = f"floating point, not {images.dtype}"
    require(images.is_floating_point(), f"images must be {given}: convert them, and divide bytes by 255")
    require(images.ndim == 4, f"images must have shape (B, C, H, W), not {tuple(images.shape)}")


def check_saliency(saliency: Tensor, images: Tensor) -> None:
    """Raise `InputError` unless it is that of images (B, C, H, W)."""
    check_tensor("saliency", saliency, images, (len(images), *images.shape[2:]))
    if values_are_looked_at(images.device.type):
        least = float(saliency.detach().nan_to_num(0).min())
        require(least >= 0, f"saliency must not be negative, not {least:.3g}: take its magnitude")


def check_noisy(noisy: Sequence[bool]) -> None:
    """Raise `InputError` unless it is two booleans, for the first image of each pair and for its partner."""
    fits = isinstance(noisy, Sequence) and len(noisy) == 2 and all(isinstance(side, bool) for side in noisy)
    require(fits, f"noisy must be two booleans, for the first and the second image, such as (True, False), not {noisy}")


def check_pairs(
    images: Tensor, saliency: Tensor, partner: Tensor, lam: float | Tensor, noise: Tensor | None, noisy: Sequence[bool]
) -> None:
    """Raise `InputError` unless these can be mixed by `puzzle_mix`."""
    check_images(images)
    require(images.numel() > 0, f"images of shape {tuple(images.shape)} hold no pixels")
    if values_are_looked_at(images.device.type):
        require_pixels(images, OVERSHOOT)
    check_partner(partner, images)
    check_lam(lam, images)
    check_saliency(saliency, images)
    check_noisy(noisy)
    if noise is not None:
        check_tensor("noise", noise, images, images.shape)
    require(noise is not None or not any(noisy), "noisy asks for noise: give noise=, of the images' shape")


def check_tensor(
    name: str, given: Tensor, images: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None
) -> None:
    """Raise `InputError` unless it is a tensor of this shape on the images' device, of `dtype` or floating point."""
    require(isinstance(given, Tensor), f"{name} must be a tensor, not {type(given).__name__}")
    require(given.shape == tuple(shape), f"{name} must have shape {tuple(shape)}, not {tuple(given.shape)}")
    same = given.device == images.device
    require(same, f"{name} must be on the images' device, {images.device}, not {given.device}")
    fits = given.is_floating_point() if dtype is None else given.dtype == dtype
    require(fits, f"{name} must be {dtype or 'floating point'}, not {given.dtype}")
