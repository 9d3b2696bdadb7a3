"""Saliency of pixels, and the gradients of the loss with respect to images.

s = sqrt(mean over channels of g^2), where g is the gradient of the cross-entropy with respect to the *normalised*
input. For a network that takes pixels and normalises them inside, g = g_pixel * std, per channel.
"""

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from puzzlemix.mixing.draws import on_device
from puzzlemix.mixing.models import DETACHED, Loss, Model, frozen, losses_of, network_of, std_of
from puzzlemix.runtime.errors import require

PRECISIONS = ("same", "bf16")  # of the saliency pass: the caller's, or bfloat16 by autocast


def input_gradient(
    model: Model,
    images: Tensor,
    targets: Tensor,
    precision: str = "same",
    forward: Callable[..., Any] | None = None,
    criterion: Loss | None = None,
) -> Tensor:
    """Gradient of the mean loss with respect to the images alone, (B, C, H, W), at least float32.

    The network is in eval mode during the pass, so two threads must not share it. No parameter gradient is computed,
    nothing is all-reduced, and batch norm statistics do not change. (The release computes parameter gradients, and
    discards them.) `precision` is that of convolutions and matrix products in the pass, one of `PRECISIONS`. For the
    other arguments and for errors see `models.losses_of`.
    """
    network = network_of(model)
    if precision == "bf16":
        warn_if_slow(images.device.type)

    def scaled_losses(images: Tensor) -> tuple[Tensor, Tensor]:
        reduced = torch.autocast(images.device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
        with reduced:
            losses = losses_of(network, images, targets, forward, criterion)  # (B,)
        if criterion is not None:
            return losses, torch.ones_like(losses)
        # If the network is sure of an image, half precision would round its gradient to 0. So each image's loss is
        # scaled until its gradient is about 1, and the gradient is divided by the same factor at the end.
        return losses, 1 / (-torch.expm1(-losses.detach())).clamp(min=1e-7)  # 1 / (1 - p of the label)

    gradient, scale = _gradient(network, images, scaled_losses)
    return gradient / (len(images) * scale).view(-1, *[1] * (images.ndim - 1))


def gradient_of_loss(network: Model, images: Tensor, targets: Tensor) -> Tensor:
    """Gradient of each image's cross-entropy with respect to its pixels, (B, C, H, W); see `models.losses_of`."""

    def losses(images: Tensor) -> tuple[Tensor, Tensor]:
        losses = losses_of(network, images, targets)
        return losses, torch.ones_like(losses)

    return _gradient(network, images, losses)[0]


def _gradient(
    network: Model, images: Tensor, losses: Callable[[Tensor], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Gradient of weighted losses with respect to the images, and the weights (B,); `losses` returns (B,) of each."""
    with frozen(network):
        images = images.detach().requires_grad_()
        loss, weight = losses(images)
        (gradient,) = _gradients(loss, weight, [images])
    require(gradient is not None, DETACHED)
    return gradient, weight


def _gradients(losses: Tensor, weight: Tensor, leaves: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradients of weighted losses (B,) with respect to some leaves, whose `.grad` stays as it is.

    torch's reentrant checkpoints and the shards of FSDP2 work with `backward()` only.
    """
    if not _has_reentrant_checkpoints(losses) and all(type(leaf) in (Tensor, nn.Parameter) for leaf in leaves):
        return [*torch.autograd.grad(losses, leaves, weight, allow_unused=True)]
    before = [leaf.grad for leaf in leaves]
    try:
        for leaf in leaves:
            leaf.grad = None
        losses.backward(weight)
        return [leaf.grad for leaf in leaves]
    finally:
        for leaf, gradient in zip(leaves, before, strict=True):
            leaf.grad = gradient


def _has_reentrant_checkpoints(losses: Tensor) -> bool:
    """Whether the graph of these losses has activation checkpoints with `use_reentrant=True`."""
    nodes, seen = [losses.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            if node.name() == "CheckpointFunctionBackward":
                return True
            seen.add(node)
            nodes += [before for before, _ in node.next_functions]
    return False


@cache  # once
def warn_if_slow(device_type: str) -> None:
    """Warn if the device has no instructions for bfloat16, so that it computes it by way of float32."""
    on_cpu = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    is_fast = on_cpu if device_type == "cpu" else torch.cuda.is_bf16_supported(including_emulation=False)
    if not is_fast:
        reason = f"this {device_type} has no bfloat16 (twice as long with AVX-512, 16 times with AVX2)"
        warnings.warn(f"saliency_precision=bf16 is probably slower than same here: {reason}", stacklevel=2)


def input_gradient_and_loss(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    weight: float,
    forward: Callable[..., Any] | None = None,
    criterion: Loss | None = None,
) -> tuple[Tensor, Tensor]:
    """Gradient of `weight` times the mean loss with respect to the images, and this loss, (), to add to another one.

    This is the pass for `clean_lam`, in the network's current mode; it updates batch norm statistics. The gradients of
    the weights are computed now. The backward pass of the returned loss adds them, times what its own gradient is: the
    scale of a GradScaler, or a share of accumulated batches. For errors see `models.losses_of`.
    """
    network = network_of(model)
    require(isinstance(network, nn.Module), "clean_lam needs a torch.nn.Module: give the model itself, or clean_lam=0")
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    images = images.detach().requires_grad_()
    losses = losses_of(network, images, targets, forward, criterion)  # (B,)
    gradient, *of_weights = _gradients(losses, torch.full_like(losses, weight / len(losses)), [images, *weights])
    require(gradient is not None, DETACHED)
    known = {parameter: value for parameter, value in zip(weights, of_weights, strict=True) if value is not None}
    require(bool(known) or not weights, "no gradients for clean_lam: use FSDP2, or FSDP1 without use_orig_params")
    with torch.enable_grad():
        loss = _Known.apply(weight * losses.detach().mean(), [*known.values()], *known)
    return gradient, loss


class _Known(torch.autograd.Function):
    """A number, (), whose gradients with respect to some weights are known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *weights: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(upstream * gradient for gradient in ctx.gradients)


def saliency_of(gradient: Tensor, model: Model) -> Tensor:
    """s (B, H, W) from the gradient with respect to the images, (B, C, ..., H, W), times the std of `models.std_of`."""
    gradient = gradient.float()  # squares would underflow in half precision
    std = std_of(model, gradient.shape[1])
    if std is not None:
        gradient = gradient * on_device(gradient.device, std).to(gradient).view(-1, *[1] * (gradient.ndim - 2))
    return gradient.square().flatten(1, -3).mean(1).sqrt()
