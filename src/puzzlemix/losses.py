"""Losses against soft targets. Which one belongs to the recipe: published numbers depend on it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bce_on_softmax(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of the softmax outputs, mean over batch and classes, in float32.

    The release trains every method on CIFAR-100 and Tiny-ImageNet with it, vanilla too.
    """
    return F.binary_cross_entropy(logits.float().softmax(-1), targets)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy against soft targets, mean over the batch, in float32: the release's ImageNet loss."""
    return F.cross_entropy(logits.float(), targets)


LOSSES = {"bce_on_softmax": bce_on_softmax, "soft_cross_entropy": soft_cross_entropy}
