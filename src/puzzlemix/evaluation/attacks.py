"""L-infinity attacks: PGD (Madry et al., 2018), and FGSM (Goodfellow et al., 2015) as one step without random start."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from puzzlemix.mixing.pgd import ascend
from puzzlemix.runtime.errors import InputError, require, require_number, require_pixels, require_whole

SETTINGS = {"eps_255", "step_255", "steps", "random_start"}  # keys of `configs/attack/`; `restarts` is optional


def attack(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    step: float,
    steps: int,
    random_start: bool,
    restarts: int = 1,
    start_noise: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Change images by at most eps a pixel so that the network's cross-entropy rises.

    Each step moves every pixel by `step` along the sign of the gradient, then back into the eps-ball, then into [0, 1].

    Args:
        network: in eval mode; takes pixels in [0, 1] and normalises them itself.
        images: (B, C, H, W) float32 in [0, 1].
        labels: (B,) int64, the true classes.
        eps: radius of the ball, in the [0, 1] units of pixels: 8/255, not 8.
        step: length of a step, in the same units.
        steps: number of steps.
        random_start: start from the images plus U(-eps, eps) noise, not from the images.
        restarts: number of attacks; each one after the first attacks the images that are still classified correctly.
        start_noise: (B, C, H, W), replaces the noise that the first attack would draw.
        generator: draws the noise, on the images' device; None for torch's global generator.

    Returns:
        (B, C, H, W) in [0, 1], detached.

    Raises:
        InputError: (a ValueError) the network is in train mode, the images are not float32 pixels in [0, 1], or a
            parameter is out of range.
    """
    require(not network.training, "attacks need the network in eval mode: call network.eval() first")
    _check_options(eps, step, steps, random_start, restarts)
    require(images.dtype == torch.float32, f"attacks need images in float32, not {images.dtype}: convert them")
    require_pixels(images)
    require(random_start or start_noise is None, "start_noise is for a random start: give random_start=True")

    def draw_noise(images: Tensor) -> Tensor:
        return torch.empty_like(images).uniform_(-eps, eps, generator=generator)

    if start_noise is None:
        start_noise = draw_noise(images) if random_start else torch.zeros_like(images)
    ball = {"eps": eps, "step": step, "steps": steps}
    found = ascend(network, images, labels, start_noise, **ball)
    for _ in range(restarts - 1):
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            is_correct = network(found).argmax(1) == labels  # (B,)
        if not is_correct.any():
            break
        left = images[is_correct]
        found[is_correct] = ascend(network, left, labels[is_correct], draw_noise(left), **ball)
    return found


def attack_options(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `attack` for an attack of `configs/attack/`; raises `InputError` if its settings cannot work."""
    has_all = set(settings) - {"restarts"} == SETTINGS
    require(has_all, f"attack '{name}' must have {sorted(SETTINGS)}, not {sorted(settings)}")
    options = dict(settings)
    for key in ("eps", "step"):
        value = options.pop(f"{key}_255")
        require_number(f"attack '{name}': {key}_255, in 1/255 of the pixel range,", value, 0, 255)
        options[key] = value / 255
    try:
        _check_options(**options)
    except InputError as error:
        raise InputError(f"attack '{name}': {error}") from error
    return options


def _check_options(eps: float, step: float, steps: int, random_start: bool, restarts: int = 1) -> None:
    require(0 <= eps <= 1, f"eps must lie in [0, 1], the range of pixels (8/255 instead of 8), not {eps}")
    require(0 <= step <= 1, f"step must lie in [0, 1], the range of pixels (2/255 instead of 2), not {step}")
    require_whole("steps", steps, least=1)
    require(isinstance(random_start, bool), f"random_start must be true or false, not {random_start}")
    require_whole("restarts", restarts, least=1)
    require(random_start or restarts == 1, "restarts need random_start: without it they would all be the same")
