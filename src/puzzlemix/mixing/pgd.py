"""Adversarial training by PGD (Madry et al., ICLR 2018), and Puzzle Mix of such images: baselines of this repository.

Neither is the paper's. Its adversarial variant takes one step, on few images, and shrinks it by a random scale; what it
gains under FGSM should be compared with what several steps on every image gain, under attacks of several steps.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from puzzlemix.mixing.base import Mixer, check_tensor
from puzzlemix.mixing.puzzle import PuzzleMix
from puzzlemix.mixing.saliency import ascend, frozen, network_of
from puzzlemix.runtime.errors import require, require_number, require_whole


class PGDTraining(Mixer):
    """Every image is replaced by what PGD makes of it, against the network as it is in eval mode.

    Args:
        eps: bound of the attack, in 1/255 of the pixel range.
        step: of the attack, likewise.
        steps: how many; Madry et al. take 7 of 2/255 at 8/255 on CIFAR.
        num_classes: K of the targets.
        prob: probability that a batch is attacked at all.

    Raises:
        InputError: (a ValueError) on a parameter out of range.
    """

    given_names = ("start_noise",)
    overshoot = 0.0

    def __init__(self, eps: float = 8.0, step: float = 2.0, steps: int = 7, *, num_classes: int, prob: float = 1.0):
        super().__init__(num_classes=num_classes, prob=prob)
        require_number("eps, in 1/255 of the pixel range,", eps, 0, 255)
        require_number("step, in 1/255 of the pixel range,", step, 0, 255)
        require_whole("steps", steps, least=1)
        self.eps, self.step, self.steps = eps, step, steps

    def draw(self, images: Tensor, given: Mapping[str, Any]) -> dict[str, Any]:
        """`start_noise`, U(-eps, eps), (B, C, H, W)."""
        return {"start_noise": self.draws.uniform_like(images, -self.eps / 255, self.eps / 255)}

    def mix(self, model: nn.Module, images: Tensor, labels: Tensor, drawn: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The attacked images, (B, C, H, W), and one-hot targets (B, K)."""
        ball = {"eps": self.eps / 255, "step": self.step / 255, "steps": self.steps}
        return attacked(model, images, labels, drawn["start_noise"], **ball), self.one_hot(labels)


class PuzzlePGD(PuzzleMix):
    """Adversarial Puzzle Mix whose noise is PGD's, of several steps, and is not shrunk.

    Args:
        adv_p: probability, for each image of a pair, of the noise on that side.
        adv_eps: bound of the noise, in 1/255 of the pixel range.
        adv_step: of a step, likewise.
        adv_steps: how many.
        **options: `PuzzleMix`'s; `adv_decay` has no effect.
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
        """`start_noise` alone."""
        return {"start_noise": super().draw_noise(images)["start_noise"]}

    def noise_before_saliency(
        self, model: nn.Module, pixels: Tensor, labels: Tensor, drawn: Mapping[str, Any]
    ) -> Tensor:
        """PGD's, (B, C, H, W): the saliency is that of the attacked images."""
        ball = {"eps": self.adv_eps / 255, "step": self.adv_step / 255, "steps": self.adv_steps}
        return attacked(model, pixels, labels, drawn["start_noise"], **ball) - pixels

    def noise_after_saliency(self, noise: Tensor, gradient: Tensor, drawn: Mapping[str, Any]) -> Tensor:
        """As it is."""
        return noise


def attacked(model: nn.Module, images: Tensor, labels: Tensor, start_noise: Tensor, **ball: Any) -> Tensor:
    """What PGD makes of images (B, C, H, W) against the network in eval mode; its modes and gradients stay.

    Args:
        **ball: `eps`, `step` and `steps` of `ascend`.

    Raises:
        InputError: noise that is not of the images' shape.
    """
    check_tensor("start_noise", start_noise, images, images.shape)
    network = network_of(model)
    with frozen(network):
        return ascend(network, images.float(), labels, start_noise.float(), **ball).to(images.dtype)
