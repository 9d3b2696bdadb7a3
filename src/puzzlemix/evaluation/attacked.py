"""Errors under attacks, as their settings in `configs/attack/` say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from puzzlemix.evaluation.attacks import attack, check_attack
from puzzlemix.evaluation.evaluator import Evaluator
from puzzlemix.runtime import distributed
from puzzlemix.runtime.errors import InputError, require, require_number, require_whole
from puzzlemix.runtime.seeding import torch_seed

SETTINGS = {"eps_255", "step_255", "steps", "random_start"}  # and `restarts`, where more than one

Settings = Mapping[str, Any]


def attack_errors(evaluator: Evaluator, attacks: Mapping[str, Settings]) -> dict[str, float]:
    """Top-1 error in percent under each attack, as `{name}_error`.

    Random starts follow from the evaluator's seed, the process and the number of the batch: with other batches, or
    another number of processes, they are others.

    Args:
        evaluator: of the network.
        attacks: by name, each with `eps_255` and `step_255` in 1/255, `steps`, `random_start` and perhaps `restarts`.
    """
    generator = torch.Generator(evaluator.device)
    errors = {}
    for name, settings in attacks.items():
        options = attack_options(name, settings)

        def perturb(batch: int, images: Tensor, labels: Tensor, options=options) -> Tensor:
            generator.manual_seed(torch_seed("attack", evaluator.seed, distributed.rank(), batch))
            return attack(evaluator.network, images, labels, **options, generator=generator)

        errors[f"{name}_error"] = evaluator.errors(name, perturb, of=json.dumps(dict(settings)))[0]
    return errors


def attack_options(name: str, settings: Settings) -> dict[str, Any]:
    """The arguments of `attack`, in its units.

    Raises:
        InputError: the settings are not those of an attack, or out of range.
    """
    given = set(settings) - {"restarts"}
    require(given == SETTINGS, f"attack '{name}' must have {sorted(SETTINGS)}, not {sorted(settings)}")
    require(None not in settings.values(), f"attack '{name}' must not have null in {dict(settings)}")
    for key in ("eps_255", "step_255"):
        require_number(f"attack '{name}': {key}, in 1/255 of the pixel range,", settings[key], 0, 255)
    others = {key: settings[key] for key in ("steps", "random_start", "restarts") if key in settings}
    options = {"eps": settings["eps_255"] / 255, "step": settings["step_255"] / 255, **others}
    try:
        check_attack(**options)
    except InputError as error:
        raise InputError(f"attack '{name}': {error}") from error
    return options


def check_evaluation(batch_size: int, attacks: Mapping[str, Settings]) -> None:
    """Raise `InputError` unless these settings can work: ask before hours of training."""
    require_whole("test_batch_size", batch_size, least=1)
    for name, settings in attacks.items():
        attack_options(name, settings)
