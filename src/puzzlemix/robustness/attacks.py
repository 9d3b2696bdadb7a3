"""L-infinity attacks in one loop: FGSM (Goodfellow et al., 2015) is PGD (Madry et al., 2018) of one step, no start."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from puzzlemix.errors import require, require_whole


def attack(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    step: float,
    steps: int,
    random_start: bool,
    start_noise: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Images within eps of the given ones on which the network's cross-entropy is higher.

    Each step moves every pixel by `step` along the gradient's sign, then back into the eps-ball, then into [0, 1].

    Args:
        network: in eval mode, taking pixels in [0, 1]: normalisation belongs inside.
        images: (B, C, H, W) in [0, 1].
        labels: (B,) int64, the true ones.
        eps: radius of the ball, in the [0, 1] units of pixels: 8/255, not 8.
        step: length of a step, same units.
        steps: how many.
        random_start: start from U(-eps, eps) noise rather than from the images.
        start_noise: (B, C, H, W), used instead of drawing it.
        generator: draws the noise, on the images' device; None is torch's global one.

    Returns:
        (B, C, H, W) in [0, 1], detached.

    Raises:
        InputError: (a ValueError) network in train mode, pixels outside [0, 1], or eps, step or steps out of range.
    """
    require(not network.training, "attacks need the network in eval mode: call network.eval() first")
    check_attack(eps, step, steps)
    in_range = images.numel() == 0 or (images.min() >= 0 and images.max() <= 1)
    require(bool(in_range), "images must be pixels in [0, 1]: normalisation belongs inside the network")

    if random_start and start_noise is None:
        start_noise = torch.empty_like(images).uniform_(-eps, eps, generator=generator)
    current = (images + start_noise).clamp(0, 1) if random_start else images
    for _ in range(steps):
        current = current.detach().requires_grad_()
        with torch.enable_grad():
            loss = F.cross_entropy(network(current), labels, reduction="sum")
        gradient = torch.autograd.grad(loss, current)[0]
        moved = current.detach() + step * gradient.sign()
        current = (images + (moved - images).clamp(-eps, eps)).clamp(0, 1)
    return current


def check_attack(eps: float, step: float, steps: int) -> None:
    """Raise `InputError`, naming the parameter and its range, on a value that no attack can use."""
    require(0 <= eps <= 1, f"eps is in [0, 1] units of pixels (8/255, not 8), not {eps}")
    require(0 <= step <= 1, f"step is in [0, 1] units of pixels (2/255, not 2), not {step}")
    require_whole("steps", steps, least=1)
