"""Saliency: how strongly the loss depends on each pixel.

s = sqrt(mean over channels of g^2), g the gradient of the cross-entropy with respect to the *normalised* input. A
network that takes pixels and normalises inside gives g_pixel; g = g_pixel * std, channel by channel.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import torch
from torch import Tensor, nn

from puzzlemix.mixing.gradients import DETACHED, cross_entropies, frozen, network_of
from puzzlemix.runtime.distributed import unwrap
from puzzlemix.runtime.errors import require


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

    A model that does so in a part called `normalize`, or in the first of an `nn.Sequential`, with a `std` for all
    channels or one for each (the networks of this package; torchvision's `Normalize`), is recognised; of any other, the
    gradient is taken as it is, which is the same up to scale where all channels have one std.
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
