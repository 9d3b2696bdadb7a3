"""All that is measured of a network's robustness, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from puzzlemix.data.corrupted import CorruptedImages
from puzzlemix.evaluation.attacked import attack_errors
from puzzlemix.evaluation.auto_attack import auto_attack
from puzzlemix.evaluation.calibration import calibration
from puzzlemix.evaluation.corrupted import corruption_errors
from puzzlemix.evaluation.evaluator import Evaluator, clean_errors, train_error
from puzzlemix.evaluation.self_checks import zero_gradients


def measure(
    evaluator: Evaluator,
    attacks: Mapping[str, Mapping[str, Any]],
    corrupted: CorruptedImages | None,
    auto: Mapping[str, Any],
    with_train_images: bool,
) -> dict[str, Any]:
    """Errors in percent, clean and under each attack, calibration, and what else is asked for; the longest last.

    Args:
        evaluator: of the network.
        attacks: by name, as in `configs/attack/`.
        corrupted: a set of corrupted images; None: none is measured.
        auto: `eps_255` of AutoAttack, None where it is not run, and of how many images one is attacked, `every`.
        with_train_images: also the clean error on the training images.
    """
    results = clean_errors(evaluator) | attack_errors(evaluator, attacks)
    results |= {"attacks": dict(attacks), "zero_gradients": zero_gradients(evaluator)}
    results["calibration"] = calibration(evaluator)
    if with_train_images:
        results["train_error"] = train_error(evaluator)
    if corrupted is not None:
        results["corruptions"] = corruption_errors(evaluator, corrupted)
    if auto["eps_255"] is not None:
        results["auto_attack"] = auto_attack(evaluator, **auto)
    return results
