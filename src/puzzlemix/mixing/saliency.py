"""Saliency of pixels, and the gradients of the loss with respect to images.

s = sqrt(mean over channels of g^2), where g is the gradient of the cross-entropy with respect to the *normalised*
input. For a network that takes pixels and normalises them inside, g = g_pixel * std, per channel.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from puzzlemix.mixing.draws import on_device
from puzzlemix.runtime.distributed import unwrap
from puzzlemix.runtime.errors import require, values_are_checked

PRECISIONS = ("same", "bf16")  # of the saliency pass: the caller's, or bfloat16 by autocast
DETACHED = "a gradient with respect to the images is needed, but the model detaches its scores from them"


def input_gradient(model: nn.Module, images: Tensor, labels: Tensor, precision: str = "same") -> Tensor:
    """Gradient of the mean cross-entropy with respect to the images alone, (B, C, H, W), at least float32.

    `precision` is that of convolutions and matrix products in the pass, one of `PRECISIONS`.

    The network is in eval mode during the pass, so two threads must not share it. No parameter gradient is computed,
    nothing is all-reduced, and batch norm statistics do not change. (The release computes parameter gradients, and
    discards them.) Raises `InputError` if the network does not return class scores, or if no gradient can be computed.
    """
    network = network_of(model)
    images = images.detach().requires_grad_()
    if precision == "bf16":
        warn_if_slow(images.device.type)
    reduced = torch.autocast(images.device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
    with frozen(network), reduced:
        loss = cross_entropies(network, images, labels)  # (B,)
    # If the network is sure of an image, half precision would round its gradient to 0. So each image's loss is scaled
    # until its gradient is about 1, and the gradient is divided by the same factor at the end.
    scale = 1 / (-torch.expm1(-loss.detach())).clamp(min=1e-7)  # 1 / (1 - p of the label)
    (gradient,) = torch.autograd.grad(loss, images, scale, allow_unused=True)
    require(gradient is not None, DETACHED)
    return gradient / (len(images) * scale).view(-1, 1, 1, 1)


@cache  # once
def warn_if_slow(device_type: str) -> None:
    """Warn if the device has no instructions for bfloat16, so that it computes it by way of float32."""
    on_cpu = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    is_fast = on_cpu if device_type == "cpu" else torch.cuda.is_bf16_supported(including_emulation=False)
    if not is_fast:
        reason = f"this {device_type} has no bfloat16 (twice as long with AVX-512, 16 times with AVX2)"
        warnings.warn(f"saliency_precision=bf16 is probably slower than same here: {reason}", stacklevel=2)


def input_gradient_and_backward(model: nn.Module, images: Tensor, labels: Tensor, weight: float) -> Tensor:
    """Gradient of `weight` times the mean cross-entropy with respect to the images, LEAVING parameter gradients behind.

    This is the pass for `clean_lam`, in the network's current mode. It adds to the parameter gradients, which DDP
    averages together with those of the mixed loss. It updates batch norm statistics.
    """
    images = images.detach().requires_grad_()
    loss = cross_entropies(network_of(model), images, labels)  # (B,)
    loss.backward(torch.full_like(loss, weight / len(loss)))
    require(images.grad is not None, DETACHED)
    return images.grad


def saliency_of(gradient: Tensor, model: nn.Module) -> Tensor:
    """s (B, H, W) from the gradient with respect to the images, (B, C, H, W), times the model's std if it has one.

    The std is that of the submodule `normalize`, or of the first module of an `nn.Sequential`.
    """
    gradient = gradient.float()  # squares would underflow in half precision
    network = unwrap(model)
    first = network[0] if isinstance(network, nn.Sequential) and len(network) else None
    std = getattr(getattr(network, "normalize", first), "std", None)
    if std is not None:
        std = std if isinstance(std, Tensor) else on_device(gradient.device, torch.tensor(std, device="cpu"))
        gradient = gradient * std.to(gradient).view(-1, 1, 1)
    return gradient.square().mean(1).sqrt()


def network_of(model: nn.Module) -> nn.Module:
    """The network without its wrappers (DDP, `torch.compile`); raises `InputError` if it is not a module."""
    require(isinstance(model, nn.Module), f"the model must be a torch.nn.Module, not {type(model).__name__}")
    return unwrap(model)


def cross_entropies(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each image, (B,) float32. The images must be a leaf that requires a gradient.

    Raises `InputError` if the network does not return scores for the labels, or if no gradient can be computed.
    """
    require(not torch.is_inference_mode_enabled(), "a gradient is needed: call this outside torch.inference_mode()")
    with torch.enable_grad():
        scores = network(images * 1)  # a copy, because the network may change its input in place
        is_known = isinstance(scores, Tensor) and scores.ndim == 2
        given = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        require(is_known, f"the model must return class scores (B, K), not {given}: wrap it in one that does")
        require(scores.requires_grad, DETACHED)
        if values_are_checked(labels.device.type) and len(labels):
            classes, low, high = scores.shape[1], int(labels.min()), int(labels.max())
            is_scored = 0 <= low <= high < classes
            require(is_scored, f"labels go from {low} to {high}, but the model has scores for {classes} classes")
        return F.cross_entropy(scores.float(), labels, reduction="none")


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Inside, the network is in eval mode and its weights need no gradient; afterwards both are as before.

    Without this, a compiled network would also compute the gradients of its weights, half of its backward pass.
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


def gradient_of_loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Gradient of each image's cross-entropy with respect to its pixels, (B, C, H, W)."""
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        loss = cross_entropies(network, images, labels).sum()
    (gradient,) = torch.autograd.grad(loss, images, allow_unused=True)
    require(gradient is not None, DETACHED)
    return gradient
