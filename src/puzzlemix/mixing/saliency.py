"""Saliency: how strongly the loss depends on each pixel.

s = sqrt(mean over channels of g^2), g the gradient of the cross-entropy with respect to the *normalised* input. A
network that takes pixels and normalises inside gives g_pixel; g = g_pixel * std, channel by channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from puzzlemix.distributed import unwrap


def input_gradient(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the mean cross-entropy with respect to the images alone, (B, C, H, W).

    The network is in eval mode meanwhile; no parameter gradient is computed, nothing is all-reduced, batch norm
    statistics stay. (The release computes parameter gradients here and throws them away.)
    """
    network = unwrap(model)
    images = images.detach().requires_grad_()
    with _eval_mode(network), torch.enable_grad():
        loss = F.cross_entropy(network(images).float(), labels)
    return torch.autograd.grad(loss, images)[0]


def input_gradient_and_backward(model: nn.Module, images: Tensor, labels: Tensor, weight: float) -> Tensor:
    """The gradient of `weight` times that loss, in train mode, LEAVING parameter gradients behind: with `clean_lam`.

    Its parameter gradients add to those already there and, under DDP, are averaged together with the mixed loss's.
    Batch norm statistics move once here and once in the mixed pass.
    """
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        loss = weight * F.cross_entropy(unwrap(model)(images).float(), labels)
    loss.backward()
    return images.grad


def saliency_of(gradient: Tensor, model: nn.Module) -> Tensor:
    """s (B, H, W) from the input gradient (B, C, H, W), times std where the model normalises inside.

    A model that does so in a part `normalize` with a `std` a channel (the networks of this package; torchvision's
    `Normalize`) is recognised; of any other, the gradient is taken as it is.
    """
    gradient = gradient.float()  # squares of half precision would vanish
    std = getattr(getattr(unwrap(model), "normalize", None), "std", None)
    if std is not None:
        gradient = gradient * torch.as_tensor(std).to(gradient).view(-1, 1, 1)
    return gradient.square().mean(1).sqrt()


@contextmanager
def _eval_mode(network: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards each module is in the mode it was in, frozen ones too."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
