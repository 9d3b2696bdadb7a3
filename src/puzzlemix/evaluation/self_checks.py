"""Checks of errors under attack. If one fails, an attack has failed, and its error does not show a robust network.

Sources: Athalye, Carlini and Wagner, *Obfuscated Gradients Give a False Sense of Security* (ICML 2018), section 3.1;
Carlini et al., *On Evaluating Adversarial Robustness* (2019).
"""

from collections.abc import Iterable, Mapping
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from puzzlemix.evaluation.evaluator import Evaluator
from puzzlemix.mixing.saliency import gradient_of_loss


def zero_gradients(evaluator: Evaluator) -> float:
    """Percent of images for which the gradient of the loss is zero in every pixel, so that no attack can follow it."""

    def measure(batch: int, images: Tensor, labels: Tensor) -> Tensor:
        gradient = gradient_of_loss(evaluator.network, images, labels)
        is_zero = (gradient == 0).flatten(1).all(1)  # (B,)
        return torch.stack([is_zero.sum(), torch.tensor(len(labels), device=is_zero.device)])

    zero, images = evaluator.total("zero_gradients", 2, measure)
    return 100 * zero / images


def self_checks(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Check an evaluation's results: the clean error, those under attack, and `zero_gradients`.

    Returns:
        For each check: `check`, the condition; `fired`, whether the errors break it; `found`, the errors that it
        compared, in words, or None if they were not measured.
    """
    clean, share = results["top1_error"], results["zero_gradients"]
    attacked = [(settings, results[f"{name}_error"]) for name, settings in results["attacks"].items()]

    # For each check, pairs of the excess over the condition and the errors in words. The largest excess counts.
    at_zero = [
        (abs(error - clean), f"{error:.2f} %, clean {clean:.2f} %") for one, error in attacked if not one["eps_255"]
    ]
    lowered = [(clean - error, f"{attack_name(one)} {error:.2f} %, clean {clean:.2f} %") for one, error in attacked]
    one_step, random_start, square = [], [], []
    for (one, error), (other, other_error) in permutations(attacked, 2):
        pair = error - other_error, f"{attack_name(one)} {error:.2f} %, {attack_name(other)} {other_error:.2f} %"
        if one["steps"] == 1 and other["steps"] >= 20 and one["eps_255"] == other["eps_255"]:
            one_step.append(pair)
        if one["random_start"] and not other["random_start"] and one == {**other, "random_start": True}:
            random_start.append(pair)
    if auto_attack := results.get("auto_attack"):
        *_, before, after = auto_attack["after"].values()  # Square is the last attack, and alone uses no gradient
        square.append((after - before, f"Square {after:.2f} %, those before it {before:.2f} %"))

    return [
        _worst("the error at eps 0 is the clean one", at_zero),
        _worst("no attack lowers the error", lowered),
        _worst("one step is not stronger than 20, by more than {:g} points", one_step, allowed=5.0),
        _worst("a random start makes no attack stronger, by more than {:g} point", random_start, allowed=1.0),
        _worst("the gradient is zero for at most {:g} % of images", [(share, f"{share:.2f} %")], allowed=10.0),
        _worst(  # AutoAttack's own check allows as much
            "an attack without gradients fools at most {:g} points more than those with gradients", square, allowed=0.2
        ),
    ]


def _worst(check: str, candidates: Iterable[tuple[float, str]], allowed: float = 0.0) -> dict[str, Any]:
    """The check, which fires if its worst candidate exceeds what is allowed."""
    excess, found = max(candidates, default=(0.0, None))
    return {"check": check.format(allowed), "fired": excess > allowed, "found": found}


def attack_name(settings: Mapping[str, Any]) -> str:
    """An attack in a few words: `FGSM 8/255`, `PGD-20 4/255 (step 2)`."""
    is_one_step = settings["steps"] == 1
    name = "FGSM" if is_one_step else f"PGD-{settings['steps']}"
    restarts = f" x {settings['restarts']}" if settings.get("restarts", 1) > 1 else ""
    has_usual_step = is_one_step and settings["step_255"] == settings["eps_255"]
    step = "" if has_usual_step else f" (step {settings['step_255']:g})"
    has_usual_start = settings["random_start"] != is_one_step
    start = "" if has_usual_start else f" {'with' if is_one_step else 'without'} random start"
    return f"{name}{restarts} {settings['eps_255']:g}/255{step}{start}"
