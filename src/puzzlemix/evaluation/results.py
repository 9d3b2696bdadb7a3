"""The file of a network's evaluation, `robustness.json`: its place, its shape, its earlier results, its summary."""

from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from puzzlemix.data.corrupted import SEVERITIES
from puzzlemix.evaluation.auto_attack import ATTACKS
from puzzlemix.evaluation.calibration import BINS
from puzzlemix.evaluation.self_checks import attack_name
from puzzlemix.runtime.errors import require
from puzzlemix.runtime.files import next_to
from puzzlemix.runtime.nested import has_shape, is_number, is_percentage, read_nested

NAME = "robustness.json"

# The parts of the file that this package reads, and their shapes.
ATTACK = {"eps_255": is_number, "step_255": is_number, "steps": int, "random_start": bool, "restarts?": int}
BIN = ({"images": int, "confidence": is_number, "accuracy": is_number}, {"images": lambda images: images == 0})
EVALUATION = {
    "weights": str,
    "seed": int,
    "top1_error": is_percentage,
    "top5_error": is_percentage,
    "train_error?": is_percentage,
    "zero_gradients": is_number,
    "calibration": {"ece": is_number, "nll": is_number, "bins": [BIN] * (BINS + 1)},
    "corruptions?": {
        "folder": str,
        "missing": [str],
        "errors": {"*": [is_percentage] * len(SEVERITIES)},
        "error_of_19": (is_percentage, NoneType),
        "error_of_15": (is_percentage, NoneType),
    },
    "auto_attack?": {
        "eps_255": is_number,
        "images": int,
        "clean": is_percentage,
        "error": is_percentage,
        "after": {**dict.fromkeys(ATTACKS, is_percentage), "*": is_percentage},
    },
    "self_checks": [{"check": str, "fired": bool, "found": (str, NoneType)}],
}


def results_path(checkpoint: str | Path, name: str = NAME) -> Path:
    """A file of a checkpoint's results: in the run's folder for a run's `last.pt`, next to any other checkpoint."""
    path = Path(checkpoint)
    is_of_run = path.name == "last.pt" and path.parent.name == "checkpoints"
    return path.parent.with_name(name) if is_of_run else next_to(path, name)


def read_evaluation(path: Path) -> dict[str, Any]:
    """The results that `evaluate.py` has written; `{}` if there are none, or they are damaged."""
    results = read_nested(path)
    return results if has_shape(results, EVALUATION) and attacks_are_whole(results) else {}


def earlier_evaluation(path: Path, weights: str, evaluated_on: str, seed: int) -> dict[str, Any]:
    """The file's results for the same network on the same images; `{}` if it has none.

    Raises:
        InputError: they were measured with another seed, and a new evaluation would delete them.
    """
    earlier = read_evaluation(path)
    if (earlier.get("weights"), earlier.get("evaluated_on")) != (weights, evaluated_on):
        return {}
    remedy = "give another output=, or delete it"
    require(earlier["seed"] == seed, f"{path} holds results of seed={earlier['seed']}, not {seed}: {remedy}")
    return earlier


def is_of_run(results: Mapping[str, Any], metrics: Mapping[str, Any]) -> bool:
    """Whether results are those of a finished run's last network, on the images on which the run was evaluated."""
    return bool(metrics) and all(results.get(key) == metrics[key] for key in ("weights", "epochs", "evaluated_on"))


def attacks_are_whole(results: Mapping[str, Any]) -> bool:
    """Whether the results have the settings and the error of every attack."""
    return has_shape(results.get("attacks"), {"*": ATTACK}) and all(
        options["steps"] > 0 and options["eps_255"] >= 0 and is_percentage(results.get(f"{name}_error"))
        for name, options in results["attacks"].items()
    )


def failed_checks(evaluation: Mapping[str, Any]) -> list[str]:
    """A line on each self-check of an evaluation that fired."""
    fired = (check for check in evaluation["self_checks"] if check["fired"])
    return [f"self-check failed: {check['check']}: {check['found']}" for check in fired]


def summary(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of one evaluation as text, by what was measured."""
    errors = {
        "clean": evaluation["top1_error"],
        "clean, of five answers": evaluation["top5_error"],
        **({"training images": evaluation["train_error"]} if "train_error" in evaluation else {}),
        **{attack_name(attack): evaluation[f"{name}_error"] for name, attack in evaluation["attacks"].items()},
    }
    if auto_attack := evaluation.get("auto_attack"):
        errors[f"AutoAttack {auto_attack['eps_255']:g}/255, {auto_attack['images']} images"] = auto_attack["error"]
    if corruptions := evaluation.get("corruptions"):
        errors |= {f"{count} corruptions": corruptions[f"error_of_{count}"] for count in (19, 15)}
    errors["expected calibration error"] = evaluation["calibration"]["ece"]
    lines = {name: "-" if error is None else f"{error:.2f} %" for name, error in errors.items()}
    return {**lines, "negative log-likelihood": f"{evaluation['calibration']['nll']:.3f}"}
