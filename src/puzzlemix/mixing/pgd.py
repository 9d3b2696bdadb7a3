"""Adversarial training with PGD (Madry et al., ICLR 2018), and Puzzle Mix of attacked images.

Both are baselines of this repository, not of the paper. The paper's adversarial variant takes a single step, on few
images, and scales the noise by a random number. To judge its gain under FGSM, compare it with training that takes
several steps on every image, under attacks of several steps.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from puzzlemix.mixing.base import Mixer, check_tensor
from puzzlemix.mixing.models import Model, network_of
from puzzlemix.mixing.puzzle import PuzzleMix
from puzzlemix.mixing.saliency import gradient_of_loss
from puzzlemix.runtime.errors import require, require_number, require_whole


class PGDTraining(Mixer):
    """Replace every image by a PGD attack on it, against the current network in eval mode.

    Args:
        eps: bound of the attack, in 1/255 of the pixel range.
        step: length of a step, in 1/255 of the pixel range.
        steps: number of steps; on CIFAR, Madry et al. take 7 steps of 2/255 within 8/255.
        **options: those of `Mixer`.
    """

    given_names = ("start_noise",)
    overshoot = 0.0

    def __init__(self, eps: float = 8.0, step: float = 2.0, steps: int = 7, **options: Any):
        super().__init__(**options)
        require_number("eps, in 1/255 of the pixel range,", eps, 0, 255)
        require_number("step, in 1/255 of the pixel range,", step, 0, 255)
        require_whole("steps", steps, least=1)
        self.eps, self.step, self.steps = eps, step, steps

    def check_given(self, given: Mapping[str, Any], images: Tensor) -> None:
        if "start_noise" in given:
            check_tensor("start_noise", given["start_noise"], images, images.shape)

    def draw(self, images: Tensor, given: Mapping[str, Any]) -> dict[str, Any]:
        """Draw `start_noise` (B, C, H, W) from U(-eps, eps) / 255."""
        return {"start_noise": self.draws.uniform_like(images, -self.eps / 255, self.eps / 255)}

    def mix(self, model: Model, images: Tensor, targets: Tensor, drawn: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The attacked images, (B, C, H, W), and their targets (B, K)."""
        ball = {"eps": self.eps / 255, "step": self.step / 255, "steps": self.steps}
        return attacked(model, images, targets, drawn["start_noise"], **ball), targets


class PuzzlePGD(PuzzleMix):
    """Adversarial Puzzle Mix with noise from a PGD attack of several steps, which is not scaled.

    Args:
        adv_p: probability of the noise on either image of a pair.
        adv_eps: bound of the noise, in 1/255 of the pixel range.
        adv_step: length of a step, in 1/255 of the pixel range.
        adv_steps: number of steps.
        **options: those of `PuzzleMix`; `adv_decay` has no effect.
    """

    given_names = ("lam", "partner", "blocks", "noisy", "start_noise")
    overshoot = 0.0

    def __init__(
        self, *, adv_p: float = 1.0, adv_eps: float = 8.0, adv_step: float = 2.0, adv_steps: int = 7, **options: Any
    ):
        super().__init__(adv_p=adv_p, adv_eps=adv_eps, **options)
        require(self.mean is None, "PuzzlePGD attacks pixels in [0, 1]: normalise in the model, without mean= and std=")
        require_number("adv_step, in 1/255 of the pixel range,", adv_step, 0, 255)
        require_whole("adv_steps", adv_steps, least=1)
        self.adv_step, self.adv_steps = adv_step, adv_steps

    def draw_noise(self, images: Tensor) -> dict[str, Any]:
        """Draw `start_noise` only."""
        return {"start_noise": super().draw_noise(images)["start_noise"]}

    def noise_for_saliency(self, model: Model, pixels: Tensor, targets: Tensor, drawn: Mapping[str, Any]) -> Tensor:
        """The attack's noise, (B, C, H, W), so that the saliency is that of the attacked images."""
        ball = {"eps": self.adv_eps / 255, "step": self.adv_step / 255, "steps": self.adv_steps}
        return attacked(model, pixels, targets, drawn["start_noise"], **ball) - pixels

    def noise_for_mixing(self, noise: Tensor, gradient: Tensor, drawn: Mapping[str, Any]) -> Tensor:
        """The noise stays as it is."""
        return noise


def attacked(model: Model, images: Tensor, targets: Tensor, start_noise: Tensor, **ball: Any) -> Tensor:
    """The images (B, C, H, W) after a PGD attack on the network in eval mode.

    Afterwards the network's modes and gradients are as before. `ball` has the `eps`, `step` and `steps` of `ascend`.
    """
    return ascend(network_of(model), images.float(), targets, start_noise.float(), **ball).to(images.dtype)


def ascend(
    network: Model, images: Tensor, targets: Tensor, noise: Tensor, *, eps: float, step: float, steps: int
) -> Tensor:
    """Projected gradient ascent on the loss (PGD, Madry et al., 2018): images (B, C, H, W) in [0, 1], within `eps`.

    Args:
        network: any; each pass is in eval mode.
        images, noise: (B, C, H, W); the ascent starts at their sum. To save a wait, values are not checked.
        targets: labels (B,) or shares (B, K).
        eps, step, steps: bound, step length, both in units of pixels in [0, 1], and number of steps.
    """
    current = (images + noise).clamp(0, 1)
    with torch.autocast(images.device.type, enabled=False):
        for _ in range(steps):
            moved = current + step * gradient_of_loss(network, current, targets).sign()
            current = (images + (moved - images).clamp(-eps, eps)).clamp(0, 1)
    return current
