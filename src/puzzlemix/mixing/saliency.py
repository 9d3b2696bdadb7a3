"""Saliency: how strongly the loss depends on each pixel; and the gradients with respect to images that it needs.

s = sqrt(mean over channels of g^2), g the gradient of the cross-entropy with respect to the *normalised* input. A
network that takes pixels and normalises inside gives g_pixel; g = g_pixel * std, channel by channel.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from puzzlemix.runtime.distributed import unwrap
from puzzlemix.runtime.errors import require, values_are_looked_at

DETACHED = "a gradient by the images is needed, but the model detaches its scores from them"


def input_gradient(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the mean cross-entropy with respect to the images alone, (B, C, H, W), in float32 or better.

    The network is in eval mode meanwhile (so two threads must not share it); no parameter gradient is computed, nothing
    is all-reduced, batch norm statistics stay. (The release computes parameter gradients here and throws them away.)

    Raises:
        InputError: the network does not answer with class scores, or gradients cannot be taken here.
    """
    network = network_of(model)
    images = images.detach().requires_grad_()
    with frozen(network):
        loss = cross_entropies(network, images, labels)  # (B,)
    # Each image's gradient sets out at 1 and is brought to scale at the end: half precision would round that of an
    # image that the network is sure of to nothing.
    scale = 1 / (-torch.expm1(-loss.detach())).clamp(min=1e-7)  # 1 / (1 - p of the label)
    (gradient,) = torch.autograd.grad(loss, images, scale, allow_unused=True)
    require(gradient is not None, DETACHED)
    return gradient / (len(images) * scale).view(-1, 1, 1, 1)


def input_gradient_and_backward(model: nn.Module, images: Tensor, labels: Tensor, weight: float) -> Tensor:
    """The gradient of `weight` times that loss, in the mode the network is in, LEAVING parameter gradients behind.

    For `clean_lam`. Its parameter gradients add to those already there and, under DDP, are averaged together with the
    mixed loss's. Batch norm statistics move once here and once in the mixed pass.
    """
    images = images.detach().requires_grad_()
    loss = cross_entropies(network_of(model), images, labels)  # (B,)
    loss.backward(torch.full_like(loss, weight / len(loss)))
    require(images.grad is not None, DETACHED)
    return images.grad


def saliency_of(gradient: Tensor, model: nn.Module) -> Tensor:
    """s (B, H, W) from the input gradient (B, C, H, W), times std where the model normalises inside.

    The part that normalises is called `normalize`, or is the first of an `nn.Sequential`, and has a `std` (the networks
    of this package, torchvision's `Normalize`). Without such a part the gradient counts as it is.
    """
    gradient = gradient.float()  # squares of half precision would vanish
    network = unwrap(model)
    first = network[0] if isinstance(network, nn.Sequential) and len(network) else None
    std = getattr(getattr(network, "normalize", first), "std", None)
    if std is not None:
        if not isinstance(std, Tensor):
            std = _kept_on(gradient.device, tuple(std) if isinstance(std, Iterable) else (std,))
        gradient = gradient * std.to(gradient).view(-1, 1, 1)
    return gradient.square().mean(1).sqrt()


@lru_cache(maxsize=16)
def _kept_on(device: torch.device, numbers: tuple[float, ...]) -> Tensor:
    """The numbers as a tensor, moved there once: a GPU is waited for."""
    return torch.tensor(numbers, device=device)


def network_of(model: nn.Module) -> nn.Module:
    """The network itself, to be differentiated.

    Raises:
        InputError: it is no module.
    """
    require(isinstance(model, nn.Module), f"the model must be a torch.nn.Module, not {type(model).__name__}")
    return unwrap(model)


def cross_entropies(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Of each image, (B,) float32, for a gradient by the images, which the caller has made a leaf.

    Raises:
        InputError: the network does not answer with scores of the labels' classes, or no gradient can be taken.
    """
    require(not torch.is_inference_mode_enabled(), "a gradient is needed: call this outside torch.inference_mode()")
    with torch.enable_grad():
        scores = network(images * 1)  # a copy, since a network may begin in place
        known = isinstance(scores, Tensor) and scores.ndim == 2
        given = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        require(known, f"the model must answer with class scores (B, K), not {given}: wrap it in one that does")
        require(scores.requires_grad, DETACHED)
        if values_are_looked_at(labels.device.type) and len(labels):
            classes, low, high = scores.shape[1], int(labels.min()), int(labels.max())
            in_range = 0 <= low <= high < classes
            require(in_range, f"labels go from {low} to {high}, but the model has scores for {classes} classes")
        return F.cross_entropy(scores.float(), labels, reduction="none")


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Eval mode and weights that need no gradient inside; afterwards each module and weight is as it was.

    Of weights that need one, a compiled network would compute it, asked for or not: half of its backward pass.
    """
    training = [module for module in network.modules() if module.training]
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    network.eval()
    try:
        for weight in weights:
            weight.requires_grad = False
        yield
    finally:
        for weight in weights:
            weight.requires_grad = True
        for module in training:
            module.training = True


def ascend(
    network: nn.Module, images: Tensor, labels: Tensor, noise: Tensor, *, eps: float, step: float, steps: int
) -> Tensor:
    """Projected gradient ascent (Madry et al., 2018) of the loss, within `eps` of the images in every pixel.

    Args:
        network: in eval mode.
        images, noise: (B, C, H, W); it starts from their sum. Nothing is checked, and no GPU is waited for.
        labels: (B,).
        eps, step: in the units of pixels in [0, 1].
        steps: how many.

    Returns:
        (B, C, H, W) in [0, 1].
    """
    current = (images + noise).clamp(0, 1)
    with torch.autocast(images.device.type, enabled=False):
        for _ in range(steps):
            moved = current + step * gradient_of_loss(network, current, labels).sign()
            current = (images + (moved - images).clamp(-eps, eps)).clamp(0, 1)
    return current


def gradient_of_loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Gradient of each image's cross-entropy by its pixels, (B, C, H, W)."""
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        loss = cross_entropies(network, images, labels).sum()
    (gradient,) = torch.autograd.grad(loss, images, allow_unused=True)
    require(gradient is not None, DETACHED)
    return gradient
