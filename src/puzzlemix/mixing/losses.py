"""Losses for soft targets. The loss is part of the recipe: published numbers depend on it."""

import torch
import torch.nn.functional as F
from torch import Tensor


def bce_on_softmax(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of softmax outputs, for logits and targets (B, K): mean over batch and classes, in float32.

    The release trains every method with it on CIFAR-100 and Tiny-ImageNet, vanilla included. If logits are not finite,
    the loss is NaN; PyTorch's own loss would raise an error, and on a GPU it would end the process.
    """
    probability = logits.float().softmax(-1)  # (B, K)
    broken = probability.isnan()
    with torch.autocast(logits.device.type, enabled=False):  # autocast refuses this loss, even in float32
        loss = F.binary_cross_entropy(probability.masked_fill(broken, 0.5), targets)
    return loss.masked_fill(broken.any(), torch.nan)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy for logits and soft targets (B, K): batch mean, in float32. The release's loss on ImageNet."""
    return F.cross_entropy(logits.float(), targets)


def jensen_shannon(logits: Tensor) -> Tensor:
    """Mean KL divergence, in nats, of the predictions for V views of the same images from their mean; logits (V, B, K).

    It is in float32. The mean prediction is clamped to at least 1e-7, as in AugMix's code (Hendrycks et al., 2020).
    """
    log = logits.float().log_softmax(-1)  # (V, B, K); the log of a softmax that is 0 would have no gradient
    predictions = log.exp()
    mean = predictions.mean(0, keepdim=True).clamp(1e-7, 1)
    return (predictions * (log - mean.log())).sum(-1).mean()


def weight_of_cross_entropy(loss: str, num_classes: int) -> float:
    """The factor that scales a mean cross-entropy to the size of `loss`: 2 / K for BCE on softmax, else 1.

    BCE on softmax is also a mean over K classes, of which two matter. The release scales its clean loss by this factor.
    """
    return 2 / num_classes if loss == "bce_on_softmax" else 1.0


LOSSES = {"bce_on_softmax": bce_on_softmax, "soft_cross_entropy": soft_cross_entropy}
