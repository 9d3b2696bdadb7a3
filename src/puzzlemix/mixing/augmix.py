"""AugMix (Hendrycks et al., ICLR 2020), and Puzzle Mix with it: consistent answers to augmented views of an image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from puzzlemix.mixing.augmentation import Augmentation
from puzzlemix.mixing.base import Loss, Mixer
from puzzlemix.mixing.losses import LOSSES, jensen_shannon, weight_of_cross_entropy
from puzzlemix.mixing.puzzle import PuzzleMix
from puzzlemix.runtime.errors import require, require_choice, require_number

VIEWS = 3  # of an image: as it is, and augmented twice


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
        coefficient: of the mean of the three views' divergences from their mean answer, beside a cross-entropy.
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
