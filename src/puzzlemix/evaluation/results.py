"""The file of a network's evaluation, `robustness.json`: its place, its shape, and how a new one keeps earlier ones."""

from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from puzzlemix.data.corrupted import SEVERITIES
from puzzlemix.evaluation.auto_attack import ATTACKS
from puzzlemix.evaluation.calibration import BINS
from puzzlemix.runtime.errors import require
from puzzlemix.runtime.files import next_to
from puzzlemix.runtime.nested import has_shape, is_number, is_percentage, read_nested

NAME = "robustness.json"
SAME = ("weights", "evaluated_on")  # keys that tell whether two evaluations are of the same network and images

# The shape of those parts of the file that are read.
ATTACK = {"eps_255": is_number, "step_255": is_number, "steps": int, "random_start": bool, "restarts?": int}
BIN = ({"images": int, "confidence": is_number, "accuracy": is_number}, {"images": lambda images: images == 0})
EVALUATION = {
    "weights": str,
    "seed": int,
    "top1_error": is_percentage,
    "top5_error": is_percentage,
    "train_error?": is_percentage,
    "zero_gradients": is_number,
    "calibration": {
        "ece": is_number,
        "nll": is_number,
        "bins": [BIN] * (BINS + 1),
        "by_confidence": [{"at_least": is_number, "accuracy": (is_number, NoneType)}],
    },
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


def results_path(checkpoint: str | Path) -> Path:
    """The file of a checkpoint's results: in the run's folder for a run's `last.pt`, next to any other checkpoint."""
    path = Path(checkpoint)
    is_of_run = path.name == "last.pt" and path.parent.name == "checkpoints"
    return path.parent.with_name(NAME) if is_of_run else next_to(path, NAME)


def read_evaluation(path: Path) -> dict[str, Any]:
    """The results that `evaluate.py` has written; `{}` if there are none, or they are damaged."""
    results = read_nested(path)
    return results if has_shape(results, EVALUATION) and attacks_are_whole(results) else {}


def check_seed(results: Mapping[str, Any], earlier: Mapping[str, Any], path: Path) -> None:
    """Raise `InputError` if the file has results of the same network with another seed, which would be lost."""
    is_other = _is_same_network(results, earlier) and earlier["seed"] != results["seed"]
    remedy = "give another output=, or delete it"
    require(not is_other, f"{path} holds results of seed={earlier.get('seed')}, not {results['seed']}: {remedy}")


def with_earlier(results: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """The new results, with those of the earlier ones of the same network that were not measured again."""
    if not _is_same_network(results, earlier):
        return dict(results)
    return {**earlier, **results, "attacks": {**earlier["attacks"], **results["attacks"]}}


def is_of_run(results: Mapping[str, Any], metrics: Mapping[str, Any]) -> bool:
    """Whether results are those of a finished run's last network, on the images of the run's own errors."""
    return bool(metrics) and all(results.get(key) == metrics[key] for key in ("weights", "epochs", "evaluated_on"))


def attacks_are_whole(results: Mapping[str, Any]) -> bool:
    """Whether the results have the settings and the error of every attack."""
    return has_shape(results.get("attacks"), {"*": ATTACK}) and all(
        options["steps"] > 0 and options["eps_255"] >= 0 and is_percentage(results.get(f"{name}_error"))
        for name, options in results["attacks"].items()
    )


def _is_same_network(results: Mapping[str, Any], earlier: Mapping[str, Any]) -> bool:
    return all(earlier.get(key) == results[key] for key in SAME)
