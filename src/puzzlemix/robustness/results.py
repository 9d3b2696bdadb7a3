"""The file of a network's evaluation, `robustness.json`: where it lies, of what it is, what is kept of earlier ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from puzzlemix.checkpoint import beside
from puzzlemix.corruptions.names import SEVERITIES
from puzzlemix.errors import require

NAME = "robustness.json"
SAME = ("weights", "evaluated_on")  # of one network, one set of images
NOT_AS_EXPECTED = (KeyError, TypeError, ValueError, AttributeError)


def results_path(checkpoint: str | Path) -> Path:
    """Where a checkpoint's results go: into the run's folder of its `last.pt`, beside any other file."""
    path = Path(checkpoint)
    of_run = path.name == "last.pt" and path.parent.name == "checkpoints"
    return path.parent.with_name(NAME) if of_run else beside(path, NAME)


def read_evaluation(path: Path) -> dict[str, Any]:
    """What `evaluate.py` wrote; `{}` where it did not, or where that is damaged."""
    try:
        results = json.loads(path.read_text())
        return results if is_whole(results) else {}
    except (OSError, *NOT_AS_EXPECTED):
        return {}


def check_seed(results: Mapping[str, Any], earlier: Mapping[str, Any], path: Path) -> None:
    """Raise `InputError` where earlier results of the same network are of another seed, and would be lost."""
    other = _same(results, earlier) and earlier["seed"] != results["seed"]
    remedy = "give another output=, or delete it"
    require(not other, f"{path} holds results of seed={earlier.get('seed')}, not {results['seed']}: {remedy}")


def with_earlier(results: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """New results, and those of earlier ones that were not measured again, if they are of the same network."""
    if not _same(results, earlier):
        return dict(results)
    return {**earlier, **results, "attacks": {**earlier["attacks"], **results["attacks"]}}


def _same(results: Mapping[str, Any], earlier: Mapping[str, Any]) -> bool:
    return all(earlier.get(key) == results[key] for key in SAME)


def is_of_run(results: Mapping[str, Any], metrics: Mapping[str, Any]) -> bool:
    """Whether results are of a finished run's last network, on the images of the run's own errors.

    Runs of earlier versions do not say what their weights were.
    """
    same = [key for key in ("weights", "epochs", "evaluated_on") if key in metrics]
    return bool(metrics) and all(results.get(key) == metrics[key] for key in same)


def is_whole(results: Mapping[str, Any]) -> bool:
    """Whether all that is shown of results is there; what is not as expected may also raise."""
    calibration, corruptions = results["calibration"], results.get("corruptions")
    auto_attack = results.get("auto_attack")
    numbers = (calibration["ece"], calibration["nll"], results["zero_gradients"])
    parts = [
        all(map(isfinite, numbers)) and is_percentage(results["top1_error"]),
        is_percentage(results.get("train_error", 0)),
        all({"from", "images", "confidence", "accuracy"} <= set(one) for one in calibration["bins"]),
        all({"at_least", "accuracy"} <= set(one) for one in calibration["by_confidence"]),
        all({"check", "fired", "found"} <= set(check) for check in results["self_checks"]),
        corruptions is None
        or (
            {"folder", "regenerated", "missing"} <= set(corruptions)
            and all(len(errors) == len(SEVERITIES) for errors in corruptions["errors"].values())
        ),
        auto_attack is None
        or ({"eps_255", "images", "clean", "after"} <= set(auto_attack) and is_percentage(auto_attack["error"])),
        isinstance(results["seed"], int),
    ]
    return all(parts) and attacks_are_whole(results)


def attacks_are_whole(results: Mapping[str, Any]) -> bool:
    """Whether every attack has its settings and its error; what is not as expected may also raise."""
    return all(
        options["steps"] > 0 and options["eps_255"] >= 0 and is_percentage(results[f"{name}_error"])
        for name, options in results["attacks"].items()
    )


def is_percentage(value: Any) -> bool:
    """A number from 0 to 100."""
    return isinstance(value, int | float) and isfinite(value) and 0 <= value <= 100
