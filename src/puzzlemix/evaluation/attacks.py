"""L-infinity attacks, all as PGD (Madry et al., 2018): FGSM (Goodfellow et al., 2015) is one step, no random start."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from puzzlemix.mixing.saliency import ascend
from puzzlemix.runtime.errors import InputError, require, require_number, require_pixels, require_whole

SETTINGS = {"eps_255", "step_255", "steps", "random_start"}  # of `configs/attack/`, which may also have `restarts`


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
    """Images within eps of the given ones that raise the network's cross-entropy.

    Each step moves every pixel by `step` along the gradient's sign, then into the eps-ball, then into [0, 1].

    Args:
        network: in eval mode; it takes pixels in [0, 1] and normalises them itself.
        images: (B, C, H, W) in [0, 1].
        labels: (B,) int64, the true ones.
        eps: radius of the ball, in the [0, 1] units of pixels: 8/255, not 8.
        step: length of a step, in the same units.
        steps: their number.
        random_start: start from U(-eps, eps) noise rather than from the images.
        restarts: number of attacks; each one after the first attacks only images that are still classified correctly.
        start_noise: (B, C, H, W), the random start of the first attack instead of a drawn one.
        generator: draws the noise, on the images' device; None stands for torch's global one.

    Returns:
        (B, C, H, W) in [0, 1], detached.

    Raises:
        InputError: (a ValueError) the network is in train mode, pixels are outside [0, 1] or not in float32, or a
            parameter is out of range.
    """
    require(not network.training, "attacks need the network in eval mode: call network.eval() first")
    _check_options(eps, step, steps, random_start, restarts)
    require(images.dtype == torch.float32, f"attacks need images in float32, not {images.dtype}: convert them")
    require_pixels(images)
    require(random_start or start_noise is None, "start_noise is for a random start: give random_start=True")

    def start(images: Tensor) -> Tensor:
        return torch.empty_like(images).uniform_(-eps, eps, generator=generator)

    ball = {"eps": eps, "step": step, "steps": steps}
    if not random_start:
        start_noise = torch.zeros_like(images)
    elif start_noise is None:
        start_noise = start(images)
    found = ascend(network, images, labels, start_noise, **ball)
    for _ in range(restarts - 1):
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            is_correct = network(found).argmax(1) == labels  # (B,)
        if not is_correct.any():
            break
        left = images[is_correct]
        found[is_correct] = ascend(network, left, labels[is_correct], start(left), **ball)
    return found


def attack_options(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `attack` for settings of `configs/attack/`; raises `InputError` if they are no attack's."""
    given = set(settings) - {"restarts"}
    require(given == SETTINGS, f"attack '{name}' must have {sorted(SETTINGS)}, not {sorted(settings)}")
    require(None not in settings.values(), f"attack '{name}' must not have null in {dict(settings)}")
    for key in ("eps_255", "step_255"):
        require_number(f"attack '{name}': {key}, in 1/255 of the pixel range,", settings[key], 0, 255)
    others = {key: settings[key] for key in ("steps", "random_start", "restarts") if key in settings}
    options = {"eps": settings["eps_255"] / 255, "step": settings["step_255"] / 255, **others}
    try:
        _check_options(**options)
    except InputError as error:
        raise InputError(f"attack '{name}': {error}") from error
    return options


def _check_options(eps: float, step: float, steps: int, random_start: bool, restarts: int = 1) -> None:
    """Raise `InputError`, naming the parameter and its range, on a value that no attack can use."""
    require(0 <= eps <= 1, f"eps is in [0, 1] units of pixels (8/255, not 8), not {eps}")
    require(0 <= step <= 1, f"step is in [0, 1] units of pixels (2/255, not 2), not {step}")
    require_whole("steps", steps, least=1)
    require(isinstance(random_start, bool), f"random_start must be true or false, not {random_start}")
    require_whole("restarts", restarts, least=1)
    require(random_start or restarts == 1, "restarts need random_start: they would all be the same")
