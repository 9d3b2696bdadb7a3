"""Checks of errors under attack; if one does not hold, the attack has failed, and the network need not be robust.

Sources: Athalye, Carlini and Wagner, *Obfuscated Gradients Give a False Sense of Security* (ICML 2018), section 3.1;
Carlini et al., *On Evaluating Adversarial Robustness* (2019).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import permutations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from puzzlemix.evaluation.evaluator import Evaluator
from puzzlemix.mixing.saliency import gradient_of_loss

ONE_STEP_BETTER_POINTS = 5.0  # the error under one step may exceed the error under twenty by so much
RANDOM_START_BETTER_POINTS = 1.0  # random starts scatter by less
ZERO_GRADIENTS_PERCENT = 10.0
SQUARE_FOOLS_POINTS = 0.2  # as in AutoAttack's own check
MANY_STEPS = 20

Attacked = tuple[Mapping[str, Any], float]  # an attack's settings and the error in percent


class SelfCheck(NamedTuple):
    """A check of a network's errors.

    Attributes:
        check: what must hold.
        fired: whether it does not hold.
        found: the errors in question, in words; None if the check needs errors that were not measured.
    """

    check: str
    fired: bool
    found: str | None


def zero_gradients(evaluator: Evaluator) -> float:
    """Percent of images with a gradient of the loss that is zero in every pixel, so that no attack can follow it."""

    def measure(batch: int, images: Tensor, labels: Tensor) -> Tensor:
        gradient = gradient_of_loss(evaluator.network, images, labels)
        nowhere = (gradient == 0).flatten(1).all(1)  # (B,)
        return torch.stack([nowhere.sum(), torch.tensor(len(labels), device=nowhere.device)])

    zero, images = evaluator.total("zero_gradients", 2, measure)
    return 100 * zero / images


def self_checks(results: Mapping[str, Any]) -> list[SelfCheck]:
    """All checks of an evaluation's results: the clean error, those under attack, and `zero_gradients`."""
    clean = results["top1_error"]
    attacked = [(settings, results[f"{name}_error"]) for name, settings in results["attacks"].items()]
    unbounded = [error for settings, error in attacked if settings["eps_255"] == 0]
    share = results["zero_gradients"]
    return [
        _worst(
            "the error at eps 0 is the clean one",
            [(abs(error - clean), f"{error:.2f} %, clean {clean:.2f} %") for error in unbounded],
        ),
        _worst(
            "no attack lowers the error",
            [(clean - error, f"{attack_name(one)} {error:.2f} %, clean {clean:.2f} %") for one, error in attacked],
        ),
        _worst(
            f"one step is not stronger than {MANY_STEPS}, by more than {ONE_STEP_BETTER_POINTS:g} points",
            _pairs(attacked, _one_step_and_many),
            ONE_STEP_BETTER_POINTS,
        ),
        _worst(
            f"a random start makes no attack stronger, by more than {RANDOM_START_BETTER_POINTS:g} point",
            _pairs(attacked, _with_and_without_start),
            RANDOM_START_BETTER_POINTS,
        ),
        _worst(
            f"the gradient is zero for at most {ZERO_GRADIENTS_PERCENT:g} % of images",
            [(share, f"{share:.2f} %")],
            ZERO_GRADIENTS_PERCENT,
        ),
        _worst(
            f"an attack without gradients fools few that those with gradients left, {SQUARE_FOOLS_POINTS:g} points",
            _square_beyond(results.get("auto_attack")),
            SQUARE_FOOLS_POINTS,
        ),
    ]


def attack_name(settings: Mapping[str, Any]) -> str:
    """An attack in a few words: `FGSM 8/255`, `PGD-20 4/255 (step 2)`."""
    one = settings["steps"] == 1
    name = "FGSM" if one else f"PGD-{settings['steps']}"
    restarts = f" x {settings['restarts']}" if settings.get("restarts", 1) > 1 else ""
    step = "" if one and settings["step_255"] == settings["eps_255"] else f" (step {settings['step_255']:g})"
    start = "" if settings["random_start"] != one else (" with random start" if one else " without random start")
    return f"{name}{restarts} {settings['eps_255']:g}/255{step}{start}"


def _worst(check: str, candidates: Iterable[tuple[float, str]], allowed: float = 0.0) -> SelfCheck:
    """The check applied to the worst of candidates, each with its excess in points and its errors in words."""
    excess, found = max(candidates, default=(0.0, None))
    return SelfCheck(check, excess > allowed, found)


def _pairs(
    attacked: list[Attacked], belong: Callable[[Mapping[str, Any], Mapping[str, Any]], bool]
) -> Iterator[tuple[float, str]]:
    """For each pair of attacks that belong together, the excess of the first's error, and both errors in words."""
    for (one, error), (other, other_error) in permutations(attacked, 2):
        if belong(one, other):
            yield error - other_error, f"{attack_name(one)} {error:.2f} %, {attack_name(other)} {other_error:.2f} %"


def _one_step_and_many(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one["steps"] == 1 and other["steps"] >= MANY_STEPS and one["eps_255"] == other["eps_255"]


def _with_and_without_start(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one["random_start"] and one == {**other, "random_start": True} and not other["random_start"]


def _square_beyond(auto_attack: Mapping[str, Any] | None) -> Iterator[tuple[float, str]]:
    """The excess of the error after Square, the last attack of AutoAttack, which alone sees no gradient."""
    if auto_attack is not None:
        *_, before, after = auto_attack["after"].values()
        yield after - before, f"Square {after:.2f} %, those before it {before:.2f} %"
