"""AugMix (Hendrycks et al., ICLR 2020), which trains for consistent predictions on augmented views of an image.

A view mixes an image with a weighted mean of `width` chains. A chain has `depth` operations, or 1 to 3 at random, each
with its own strength. An operation is applied at once to all images of a batch that drew it, on their device. The
random numbers are drawn on the CPU.

The authors' code (google-research/augmix, `augmentations.py`) defines the operations and their strengths. This file has
those operations that do not resemble a corruption of ImageNet-C. `level` is the strength, in tenths of the strongest
one. The authors' code calls Pillow, and the results here equal Pillow's. If torchvision has an operation that does the
same to a whole batch, this file calls it; the other operations are written in plain torch.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from puzzlemix.mixing.base import Mixer
from puzzlemix.mixing.draws import Draws, on_device
from puzzlemix.mixing.losses import LOSSES, jensen_shannon, weight_of_cross_entropy
from puzzlemix.mixing.models import Loss, Model, scores_of
from puzzlemix.mixing.puzzle import PuzzleMix
from puzzlemix.runtime.errors import require, require_choice, require_number, require_whole

VIEWS = 3  # the image itself and two augmentations of it
LONGEST = 3  # most operations in a chain whose length is drawn
NONE = -1  # no operation
LEVELS = 10
PIXELWISE = ("autocontrast", "equalize", "posterize", "solarize")
GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = PIXELWISE + GEOMETRIC


class Chains(NamedTuple):
    """The random numbers for N images, on the CPU, for chains of at most D operations."""

    operation: np.ndarray  # (D, N, width) int, index in OPERATIONS, or NONE
    level: np.ndarray  # (D, N, width), strength of an operation
    sign: np.ndarray  # (D, N, width), -1 or 1, direction of an operation that has one
    weight: np.ndarray  # (N, width), weight of each chain
    share: np.ndarray  # (N,), share of the chains in the result


class Augmentation:
    """AugMix's augmentation.

    Args:
        severity: the strength of an operation is drawn from U(0.1, severity), in tenths of the strongest.
        width: number of chains.
        depth: number of operations in a chain; -1 draws 1, 2 or 3.
        alpha: parameter of the Dirichlet and the Beta distribution.
    """

    def __init__(self, severity: float = 3, width: int = 3, depth: int = -1, alpha: float = 1.0):
        require_number("severity", severity, 0.1, LEVELS)
        require_whole("width", width, least=1)
        if depth != -1:
            require_whole("depth, unless it is -1,", depth, least=1)
        require_number("alpha", alpha)
        require(alpha > 0, f"alpha must be above 0, not {alpha}")
        self.severity, self.width, self.depth, self.alpha = severity, width, depth, alpha

    def draw(self, images: int, draws: Draws) -> Chains:
        """Draw the chains of `images` images, from this process's own stream."""
        stream = draws.own_stream
        shape = (LONGEST if self.depth == -1 else self.depth, images, self.width)
        operation = stream.integers(len(OPERATIONS), size=shape)
        if self.depth == -1:
            length = stream.integers(1, LONGEST + 1, size=shape[1:])  # (N, width)
            operation[np.arange(LONGEST)[:, None, None] >= length] = NONE
        return Chains(
            operation,
            stream.uniform(0.1, self.severity, shape),
            stream.choice([-1.0, 1.0], shape),
            stream.dirichlet([self.alpha] * self.width, images),
            stream.beta(self.alpha, self.alpha, images),
        )

    def __call__(self, images: Tensor, chains: Chains) -> Tensor:
        """Augment images (N, C, H, W) with pixels in [0, 1]. The result has the same shape and dtype.

        The chains work on pixels that are rounded to 256 values.
        """
        whole = (images * 255).round().clamp(0, 255).to(torch.uint8)
        ends = whole.repeat_interleave(self.width, 0)  # (N width, C, H, W)
        for drawn in zip(*chains[:3], strict=True):
            ends = apply(ends, *(numbers.ravel() for numbers in drawn))
        weight, share = (on_device(images.device, torch.from_numpy(drawn)).to(images) for drawn in chains[3:])
        weighted = ends.unflatten(0, (-1, self.width)) * (weight / 255)[:, :, None, None, None]  # (N, width, C, H, W)
        share = share[:, None, None, None]  # (N, 1, 1, 1)
        return (1 - share) * images + share * weighted.sum(1)


class AugMix(Mixer):
    """AugMix: the loss of the image, and a term that penalises different predictions for it and two augmented views.

    Args:
        augmentation: makes the views; None for the paper's: severity 3, width 3, depth -1, alpha 1.
        coefficient: weight of the term if `loss` is a cross-entropy. The term is the mean KL divergence of the three
            predictions from their mean.
        loss: name in `losses.LOSSES` of the loss on the images, which sets the scale of the term.
        num_classes: K, the number of classes.

    Source: Algorithm 1 of the AugMix paper and its code, which adds 12 times the mean of the three divergences to a
    cross-entropy. With BCE on softmax, Puzzle Mix's loss on CIFAR, we assume that the term is scaled in the same way as
    the release scales the cross-entropy on unmixed images.
    """

    overshoot = 0.0

    def __init__(
        self,
        augmentation: Augmentation | None = None,
        coefficient: float = 12.0,
        *,
        num_classes: int,
        loss: str = "bce_on_softmax",
    ):
        super().__init__(num_classes=num_classes)
        require_number("coefficient", coefficient)
        require_choice("loss", loss, LOSSES)
        self.augmentation = _checked(augmentation)
        self.weight = coefficient * weight_of_cross_entropy(loss, num_classes)

    def __call__(self, model: Model, images: Tensor, labels: Tensor, **given: Any) -> tuple[Tensor, Tensor]:
        """See `Mixer`. The images come back with two augmented views of each appended, (3 B, C, H, W)."""
        images, targets = super().__call__(model, images, labels, **given)
        repeated = images.repeat(VIEWS - 1, 1, 1, 1)
        with torch.no_grad():
            views = self.augmentation(repeated, self.augmentation.draw(len(repeated), self.draws))
        return torch.cat([images, views]), targets

    def loss(self, criterion: Loss, logits: Any, targets: Tensor) -> Tensor:
        """The loss of the first views, plus the weighted Jensen-Shannon divergence of the predictions for all views."""
        views = scores_of(logits).unflatten(0, (VIEWS, -1))  # (3, B, K)
        return criterion(views[0], targets) + self.weight * jensen_shannon(views)


class AugmentedPuzzleMix(PuzzleMix):
    """Puzzle Mix between images that AugMix has augmented once, *Puzzle Mix (aug)* in Table 6 of the Puzzle Mix paper.

    It has no divergence term. The saliency is computed on the augmented images. This takes one pass through the network
    in addition to the training pass; AugMix takes two. The authors released no code for this method.

    Args:
        augmentation: see `AugMix`.
        **options: those of `PuzzleMix`.
    """

    given_names = (*PuzzleMix.given_names, "chains")
    overshoot = 0.0

    def __init__(self, augmentation: Augmentation | None = None, **options: Any):
        super().__init__(**options)
        require(self.mean is None, "AugMix needs pixels in [0, 1]: normalise in the model, without mean= and std=")
        self.augmentation = _checked(augmentation)

    def draw(self, images: Tensor, given: Mapping[str, Any]) -> dict[str, Any]:
        """Also draw `chains`, which say what AugMix does to each image of this process."""
        return super().draw(images, given) | {"chains": self.augmentation.draw(len(images), self.draws)}

    def mix(self, model: Model, images: Tensor, targets: Tensor, drawn: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Puzzle Mix of the augmented images, (B, C, H, W), and targets (B, K)."""
        with torch.no_grad():
            augmented = self.augmentation(images, drawn["chains"])
        return super().mix(model, augmented, targets, drawn)


def _checked(augmentation: Augmentation | None) -> Augmentation:
    """The augmentation, or the paper's for None; raises `InputError` if it is not an `Augmentation`."""
    fits = augmentation is None or isinstance(augmentation, Augmentation)
    require(fits, f"augmentation must be an Augmentation, or None for the paper's, not {type(augmentation).__name__}")
    return augmentation or Augmentation()


def apply(images: Tensor, operation: np.ndarray, level: np.ndarray, sign: np.ndarray) -> Tensor:
    """Apply one operation to each image.

    Args:
        images: (N, C, H, W) uint8.
        operation: (N,) int, indices in OPERATIONS; with NONE the image stays as it is.
        level: (N,), strengths from 0 to LEVELS.
        sign: (N,), -1 or 1, the direction of an operation that has one.

    Returns:
        (N, C, H, W) uint8.
    """
    result = images.clone()
    for number, name in enumerate(PIXELWISE):
        if len(which := np.flatnonzero(operation == number)):
            index = on_device(images.device, torch.from_numpy(which))
            result[index] = change_values(name, images[index], level[which])
    if len(which := np.flatnonzero(operation >= len(PIXELWISE))):
        index = on_device(images.device, torch.from_numpy(which))
        names, (height, width) = np.array(OPERATIONS)[operation[which]], images.shape[-2:]
        result[index] = warp(images[index], source_matrices(names, level[which], sign[which], height, width))
    return result


def change_values(name: str, images: Tensor, level: np.ndarray) -> Tensor:
    """Apply an operation of `PIXELWISE` to images (N, C, H, W) uint8, with the strengths level (N,).

    With l = level / 10, posterize keeps 4 - 4 l bits, and solarize inverts values of 256 - 256 l or more. Both 4 l and
    256 l are rounded down.
    """
    from torchvision.transforms.v2 import functional  # imported here, because only AugMix needs torchvision

    match name:
        case "autocontrast" | "equalize":  # per channel, because torchvision takes 1 or 3 channels
            return getattr(functional, name)(images.flatten(0, 1)[:, None]).view_as(images)
        case "posterize":
            bits = 4 - (level * 4 / LEVELS).astype(int)  # (N,)
            return images & _per_image(images, 256 - 2 ** (8 - bits))
        case "solarize":
            threshold = 256 - (level * 256 / LEVELS).astype(int)  # (N,)
            return torch.where(images.int() >= _per_image(images, threshold, torch.int32), 255 - images, images)


def source_matrices(names: np.ndarray, level: np.ndarray, sign: np.ndarray, height: int, width: int) -> np.ndarray:
    """Affine maps (N, 2, 3) from a point (x, y, 1) of the result to the point (x, y) of the image that it shows.

    Points are measured from the corner. Rotations about the centre go up to 30 degrees, in whole degrees; shears about
    the corner go up to 0.3; translations go up to a third of the side, in whole pixels.
    """
    matrices = np.tile(np.eye(2, 3), (len(names), 1, 1))
    angle = np.radians(sign * (level * 30 / LEVELS).astype(int)) * (names == "rotate")
    cos, sin = np.cos(angle), np.sin(angle)
    matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 1, 0], matrices[:, 1, 1] = cos, -sin, sin, cos
    centre = np.array([width / 2, height / 2])
    matrices[:, :, 2] = centre - matrices[:, :, :2] @ centre
    matrices[:, 0, 1] += sign * level * 0.3 / LEVELS * (names == "shear_x")
    matrices[:, 1, 0] += sign * level * 0.3 / LEVELS * (names == "shear_y")
    for row, (name, side) in enumerate((("translate_x", width), ("translate_y", height))):
        matrices[:, row, 2] += sign * (level * side / 3 / LEVELS).astype(int) * (names == name)
    return matrices


def warp(images: Tensor, matrices: np.ndarray) -> Tensor:
    """Images (N, C, H, W) uint8 under affine maps (N, 2, 3), with bilinear interpolation and black outside."""
    height, width = images.shape[-2:]
    x, y = (torch.arange(side, device=images.device, dtype=torch.float64) + 0.5 for side in (width, height))
    places = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width), torch.ones_like(x).expand(height, -1)])
    source = on_device(images.device, torch.from_numpy(matrices)) @ places.flatten(1)  # (N, 2, H W), of pixel centres
    x, y = source.view(-1, 2, height, width).unbind(1)  # (N, H, W)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    grid = torch.stack([x * (2 / width) - 1, y * (2 / height) - 1], -1).float()  # (N, H, W, 2), in [-1, 1] inside
    moved = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    # Truncate, as Pillow does. Pillow computes in float64; in float32 a value may lie slightly below its whole number.
    return ((moved + 1e-3) * inside[:, None]).to(torch.uint8)


def _per_image(images: Tensor, numbers: np.ndarray, dtype: torch.dtype = torch.uint8) -> Tensor:
    """Numbers (N,) on the images' device, as (N, 1, 1, 1)."""
    return on_device(images.device, torch.from_numpy(numbers).to(dtype)).view(-1, 1, 1, 1)
