"""What a method needs of a model: its class scores and their losses, its normalisation, and a state in which to ask.

Models may be wrapped (DDP, torch.compile, AveragedModel, a LightningModule around its network), and may return more
than a tensor.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from puzzlemix.runtime.distributed import unwrap
from puzzlemix.runtime.errors import require, values_are_checked

Model = Callable[[Tensor], Any]  # a module, or any function of images
Loss = Callable[[Tensor, Tensor], Tensor]  # of scores and targets (B, K): a mean, (), or one value for each image
DETACHED = "a gradient with respect to the images is needed, but the model detaches its scores from them"


def network_of(model: Model) -> Model:
    """The network without DDP, DataParallel or `torch.compile`; raises `InputError` if it cannot be called."""
    require(callable(model), f"the model must be a torch.nn.Module or a function, not {type(model).__name__}")
    return unwrap(model) if isinstance(model, nn.Module) else model


def scores_of(output: Any) -> Tensor:
    """The class scores (B, K) in what a model returns: a tensor, its `logits`, or the first of a tuple or list."""
    if isinstance(output, Mapping):
        output = output.get("logits", output)
    elif hasattr(output, "logits"):
        output = output.logits
    elif isinstance(output, tuple | list) and output:
        output = output[0]
    return output


def losses_of(
    network: Model,
    images: Tensor,
    targets: Tensor,
    forward: Callable[..., Any] | None = None,
    criterion: Loss | None = None,
) -> Tensor:
    """The loss of each image, (B,) float32. The images must be a leaf that requires a gradient.

    Args:
        network: gives the scores, see `scores_of`.
        images: (B, C, H, W).
        targets: (B,) int64, or shares (B, K).
        forward: called as `forward(network, images)` instead of `network(images)`, if it is given.
        criterion: the loss; None for the cross-entropy, the binary one if there is one score.

    Raises:
        InputError: the network does not return scores for these targets, or no gradient can be computed.
    """
    require(not torch.is_inference_mode_enabled(), "a gradient is needed: call this outside torch.inference_mode()")
    with torch.enable_grad():
        images = images * 1  # a copy, because the network may change its input in place
        scores = scores_of(network(images) if forward is None else forward(network, images))
        is_known = isinstance(scores, Tensor) and scores.ndim == 2
        given = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        require(is_known, f"the model must return class scores (B, K), not {given}: give forward=, which returns them")
        require(scores.requires_grad, DETACHED)
        _check_targets(targets, scores.shape[1])
        scores = scores.float()
        if criterion is not None:
            losses = criterion(scores, targets)
            return losses.flatten(1).sum(1) if losses.ndim else losses.expand(len(scores))  # a mean counts for each
        if scores.shape[1] == 1 and targets.ndim == 2:
            return F.binary_cross_entropy_with_logits(scores, targets, reduction="none").sum(1)
        return F.cross_entropy(scores, targets, reduction="none")


def _check_targets(targets: Tensor, classes: int) -> None:
    """Raise `InputError` unless the targets are of so many classes."""
    if targets.ndim == 2:
        fits = targets.shape[1] == classes
        require(fits, f"num_classes is {targets.shape[1]}, but the model has scores for {classes} classes")
    elif values_are_checked(targets.device.type) and len(targets):
        low, high = int(targets.min()), int(targets.max())
        is_scored = 0 <= low <= high < classes
        require(is_scored, f"labels go from {low} to {high}, but the model has scores for {classes} classes")


def std_of(model: Model, channels: int) -> Tensor | None:
    """The std, (C,) or (1,), of the first normalisation in a model; None if it has none.

    A normalisation is a module with `mean` and `std`, such as torchvision's `Normalize`.
    """
    for module in model.modules() if isinstance(model, nn.Module) else ():
        std = getattr(module, "std", None)
        if isinstance(std, Tensor | Sequence | Real) and getattr(module, "mean", None) is not None:
            std = (std if isinstance(std, Tensor) else torch.tensor(std, device="cpu")).flatten()
            if len(std) in (1, channels):
                return std
    return None


def stage_of(model: nn.Module, name: str) -> nn.Module | None:
    """The submodule of this name in a network, which may lie inside a wrapper; None if there is none."""
    return next((getattr(module, name) for module in model.modules() if hasattr(module, name)), None)


@contextmanager
def frozen(network: Model) -> Iterator[None]:
    """Inside, the network is in eval mode and its weights need no gradient; afterwards both are as before.

    Without this, a compiled network would also compute the gradients of its weights, half of its backward pass. A
    gradient must be taken inside, because activation checkpointing calls the network again. Parametrised weights are
    not cached inside: later passes would find them without a gradient. A function stays as it is.
    """
    if not isinstance(network, nn.Module):
        yield
        return
    training = [module for module in network.modules() if module.training]
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    cached, parametrize._cache_enabled = parametrize._cache_enabled, 0
    network.eval()
    try:
        for weight in weights:
            weight.requires_grad = False
        yield
    finally:
        parametrize._cache_enabled = cached
        for weight in weights:
            weight.requires_grad = True
        for module in training:
            module.training = True
