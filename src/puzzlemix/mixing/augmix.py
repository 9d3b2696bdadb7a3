"""AugMix (Hendrycks et al., ICLR 2020), and Puzzle Mix with it: consistent answers to augmented views of an image.

A view mixes an image with an average of `width` chains of operations, each chain 1 to 3 operations long (or `depth`),
each operation of a strength of its own. An operation is applied at once to all images of a batch that drew it, on their
device; what is random is drawn on the CPU.

The operations are those of the authors' code (google-research/augmix, `augmentations.py`) that resemble no corruption
of ImageNet-C, with its strengths, `level` in tenths of the strongest, and with what Pillow, which it calls, makes of
them: by torchvision where that does the same to a whole batch, else in plain torch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from puzzlemix.mixing.base import Loss, Mixer
from puzzlemix.mixing.draws import Draws, on_device
from puzzlemix.mixing.losses import LOSSES, jensen_shannon, weight_of_cross_entropy
from puzzlemix.mixing.puzzle import PuzzleMix
from puzzlemix.runtime.errors import require, require_choice, require_number, require_whole

VIEWS = 3  # of an image: as it is, and augmented twice
LONGEST = 3  # chain whose length is drawn
NONE = -1
LEVELS = 10
OF_VALUES = ("autocontrast", "equalize", "posterize", "solarize")
OF_PLACES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = OF_VALUES + OF_PLACES


class _WithViews(Mixer):
    """Before another method in a class's bases: adds two augmented views to its images, and their term to the loss."""

    overshoot = 0.0
    augmentation: Augmentation
    weight: float

    def _add_views(self, augmentation: Augmentation | None, coefficient: float, loss: str) -> None:
        require_number("coefficient", coefficient)
        require_choice("loss", loss, LOSSES)
        given = type(augmentation).__name__
        fits = augmentation is None or isinstance(augmentation, Augmentation)
        require(fits, f"augmentation must be an Augmentation, or None for the paper's, not {given}")
        self.augmentation = augmentation or Augmentation()
        self.weight = coefficient * weight_of_cross_entropy(loss, self.num_classes)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, **given: Any) -> tuple[Tensor, Tensor]:
        """As `Mixer`'s; the images come back with two augmented views of each, (3 B, C, H, W), view by view."""
        mixed, targets = super().__call__(model, images, labels, **given)
        augmented = VIEWS - 1
        chains = self.augmentation.draw(augmented * len(mixed), self.draws)
        with torch.no_grad():
            views = self.augmentation(mixed.repeat(augmented, 1, 1, 1), chains)
        return torch.cat([mixed, views]), targets

    def loss(self, criterion: Loss, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of the first views, plus the weighted Jensen-Shannon divergence of all three's answers."""
        views = logits.unflatten(0, (VIEWS, -1))  # (3, B, K)
        return criterion(views[0], targets) + self.weight * jensen_shannon(views)


class AugMix(_WithViews, Mixer):
    """AugMix: cross-entropy of the image, and a term that draws the answers to it and to two augmented views together.

    Args:
        augmentation: of the views; None for the paper's, severity 3, width 3, depth -1, alpha 1.
        coefficient: of the mean of the three views' divergences from their mean answer, added to a cross-entropy.
        loss: name in `losses.LOSSES` of the loss on the images, which the term is brought to the scale of.
        num_classes: K of the targets.

    Raises:
        InputError: (a ValueError) on a parameter out of range.

    Source: Algorithm 1 of the AugMix paper, and its code, which takes the mean of the three divergences times 12 beside
    a cross-entropy. Beside the loss that Puzzle Mix's release trains CIFAR with, BCE on softmax, the term is scaled as
    that release scales the cross-entropy on unmixed images: our reading.
    """

    def __init__(
        self,
        augmentation: Augmentation | None = None,
        coefficient: float = 12.0,
        *,
        num_classes: int,
        loss: str = "bce_on_softmax",
    ):
        super().__init__(num_classes=num_classes)
        self._add_views(augmentation, coefficient, loss)


class PuzzleAugMix(_WithViews, PuzzleMix):
    """Puzzle Mix with AugMix, as in Table 7 of the Puzzle Mix paper, for which no code was released.

    From the papers: both methods, each as it is by itself. Our reading, since no source says how they meet: the batch
    is mixed first, by the saliency of images that are not augmented, and AugMix's three views are of the mixed images;
    so the targets are learnt from the mixed image as it is, and the three answers are drawn together.

    Args:
        augmentation, coefficient: see `AugMix`.
        loss: see both.
        **options: `PuzzleMix`'s.
    """

    def __init__(
        self,
        augmentation: Augmentation | None = None,
        coefficient: float = 12.0,
        *,
        loss: str = "bce_on_softmax",
        **options: Any,
    ):
        super().__init__(loss=loss, **options)
        require(self.mean is None, "views are of pixels in [0, 1]: normalise in the model, without mean= and std=")
        self._add_views(augmentation, coefficient, loss)


class Chains(NamedTuple):
    """What is drawn for N images, on the CPU; D is the longest chain's length."""

    operation: np.ndarray  # (D, N, width) int, place in OPERATIONS, or NONE
    level: np.ndarray  # (D, N, width), strength
    sign: np.ndarray  # (D, N, width), -1 or 1, of operations that have a direction
    weight: np.ndarray  # (N, width), of each chain
    share: np.ndarray  # (N,), of the chains in the result


class Augmentation:
    """AugMix's augmentation.

    Args:
        severity: an operation's strength is drawn from U(0.1, severity), in tenths of its strongest.
        width: chains.
        depth: operations of a chain; -1: 1, 2 or 3.
        alpha: of the Dirichlet and the Beta distribution.

    Raises:
        InputError: (a ValueError) on a parameter out of range.
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
        """Chains for so many images, from the stream of this process alone."""
        stream, drawn = draws.own_stream, self.depth == -1
        shape = (LONGEST if drawn else self.depth, images, self.width)
        operation = stream.integers(len(OPERATIONS), size=shape)
        if drawn:
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
        """Augment N images.

        Args:
            images: (N, C, H, W), pixels in [0, 1]; chains work on them in 256 values.
            chains: of N images.

        Returns:
            (N, C, H, W) in [0, 1], of the images' dtype.
        """
        whole = (images * 255).round().clamp(0, 255).to(torch.uint8)
        ends = whole.repeat_interleave(self.width, 0)  # (N width, C, H, W)
        for drawn in zip(*chains[:3], strict=True):
            ends = apply(ends, *(numbers.ravel() for numbers in drawn))
        weight, share = (on_device(images.device, torch.from_numpy(drawn)).to(images) for drawn in chains[3:])
        weighted = ends.unflatten(0, (-1, self.width)) * (weight / 255)[:, :, None, None, None]  # (N, width, C, H, W)
        share = share[:, None, None, None]  # (N, 1, 1, 1)
        return (1 - share) * images + share * weighted.sum(1)


def apply(images: Tensor, operation: np.ndarray, level: np.ndarray, sign: np.ndarray) -> Tensor:
    """Do to each image one operation.

    Args:
        images: (N, C, H, W) uint8.
        operation: (N,) int, places in OPERATIONS; an image of another number stays as it is.
        level: (N,), strengths, of 0 to LEVELS.
        sign: (N,), -1 or 1, directions of those that have one.

    Returns:
        (N, C, H, W) uint8.
    """
    result = images.clone()
    for place, name in enumerate(OF_VALUES):
        if len(which := np.flatnonzero(operation == place)):
            index = on_device(images.device, torch.from_numpy(which))
            result[index] = change_values(name, images[index], level[which])
    if len(which := np.flatnonzero(operation >= len(OF_VALUES))):
        index = on_device(images.device, torch.from_numpy(which))
        names, (height, width) = np.array(OPERATIONS)[operation[which]], images.shape[-2:]
        result[index] = warp(images[index], source_matrices(names, level[which], sign[which], height, width))
    return result


def change_values(name: str, images: Tensor, level: np.ndarray) -> Tensor:
    """Autocontrast, equalize, posterize to 4 - 4 l bits or solarize from 256 - 256 l on, l the level's share of 10."""
    from torchvision.transforms.v2 import functional  # here, since only AugMix needs torchvision

    match name:
        case "autocontrast" | "equalize":  # channel by channel: torchvision takes 1 or 3 of them
            return getattr(functional, name)(images.flatten(0, 1)[:, None]).view_as(images)
        case "posterize":
            bits = 4 - (level * 4 / LEVELS).astype(int)  # (N,)
            return images & _of_images(images, 256 - 2 ** (8 - bits))
        case "solarize":
            threshold = 256 - (level * 256 / LEVELS).astype(int)  # (N,)
            return torch.where(images.int() >= _of_images(images, threshold, torch.int32), 255 - images, images)


def source_matrices(names: np.ndarray, level: np.ndarray, sign: np.ndarray, height: int, width: int) -> np.ndarray:
    """Where each pixel of a result comes from: (N, 2, 3), rows for x and y, of (x, y, 1) in pixels from the corner.

    Rotations about the centre by up to 30 degrees, in whole ones; shears from the corner of up to 0.3; translations by
    up to a third of the side, in whole pixels.
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
    """Images (N, C, H, W) uint8, each pixel taken from where (N, 2, 3) says, between its neighbours; black beyond."""
    height, width = images.shape[-2:]
    x, y = (torch.arange(side, device=images.device, dtype=torch.float64) + 0.5 for side in (width, height))
    places = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width), torch.ones_like(x).expand(height, -1)])
    source = on_device(images.device, torch.from_numpy(matrices)) @ places.flatten(1)  # (N, 2, H W), pixels' centres
    x, y = source.view(-1, 2, height, width).unbind(1)  # (N, H, W)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    grid = torch.stack([x * (2 / width) - 1, y * (2 / height) - 1], -1).float()  # (N, H, W, 2), in [-1, 1] inside
    moved = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    # Cut off, as Pillow does, who has float64: in float32 a whole number may be missed by a little.
    return ((moved + 1e-3) * inside[:, None]).to(torch.uint8)


def _of_images(images: Tensor, numbers: np.ndarray, dtype: torch.dtype = torch.uint8) -> Tensor:
    """A number of each image, (N, 1, 1, 1)."""
    return on_device(images.device, torch.from_numpy(numbers).to(dtype)).view(-1, 1, 1, 1)
