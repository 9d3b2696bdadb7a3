"""Losses against soft targets. Which one belongs to the recipe: published numbers depend on it."""

import torch
import torch.nn.functional as F
from torch import Tensor


def bce_on_softmax(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of the softmax outputs, mean over batch and classes, in float32.

    The release trains every method on CIFAR-100 and Tiny-ImageNet with it, vanilla too. Where the logits are not finite
    the loss is NaN (PyTorch's raises there, and on a GPU takes the process with it).

    Args:
        logits: (B, K).
        targets: (B, K) in [0, 1].
    """
    probability = logits.float().softmax(-1)  # (B, K)
    broken = probability.isnan()
    with torch.autocast(logits.device.type, enabled=False):  # which refuses this loss, even in float32
        loss = F.binary_cross_entropy(probability.masked_fill(broken, 0.5), targets)
    return loss.masked_fill(broken.any(), torch.nan)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy against soft targets, mean over the batch, in float32: the release's ImageNet loss.

    Args:
        logits: (B, K).
        targets: (B, K), each row summing to 1.
    """
    return F.cross_entropy(logits.float(), targets)


def jensen_shannon(logits: Tensor) -> Tensor:
    """How far answers to views of the same images are apart: the mean of their KL divergences from their mean, in nats.

    As AugMix's code computes it (Hendrycks et al., 2020): the mean answer is kept above 1e-7, and all is in float32.

    Args:
        logits: of V views, (V, B, K).
    """
    log = logits.float().log_softmax(-1)  # (V, B, K); the logarithm of a softmax that is 0 has no gradient
    answers = log.exp()
    mean = answers.mean(0, keepdim=True).clamp(1e-7, 1)
    return (answers * (log - mean.log())).sum(-1).mean()


def weight_of_cross_entropy(loss: str, num_classes: int) -> float:
    """The factor that gives a mean cross-entropy the weight of `loss`: 2 / K for BCE on softmax.

    BCE on softmax takes the mean over K classes too, where two terms matter. So the release balances its loss on
    unmixed images on CIFAR-100 and Tiny-ImageNet; on ImageNet, where both are cross-entropies, it takes it as it is.
    """
    return 2 / num_classes if loss == "bce_on_softmax" else 1.0


LOSSES = {"bce_on_softmax": bce_on_softmax, "soft_cross_entropy": soft_cross_entropy}
