"""The files of a run's folder, read by somebody who did not write them: they may be damaged, or half written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from puzzlemix.evaluation.results import attacks_are_whole
from puzzlemix.reporting.measures import TOP1, TOP5
from puzzlemix.runtime.errors import require
from puzzlemix.runtime.nested import flatten, has_shape, is_number, is_percentage, parse_nested, read_nested, read_text
from puzzlemix.training.log import STATISTICS, read_metrics
from puzzlemix.training.loop import PARTS
from puzzlemix.training.settings import fingerprint

# What is used of each file.
CONFIG = {
    "name": str,
    "seed": int,
    "table": (str, int),
    "choices": {"network": str, "mixup": str},
    "dataset": {"name": (str, int)},
    "network": dict,
    "mixup": dict,
    "recipe": {"epochs": int, "phases": list, "schedule": str},
    "precision": str,
}
SECONDS = dict.fromkeys((*PARTS, "total"), is_number)
METRICS = {
    **dict.fromkeys((TOP1.key, TOP5.key), dict.fromkeys(STATISTICS, is_percentage)),
    "weights": (str, NoneType),  # None: not recorded, and so are threads
    "evaluated_on": str,
    "seconds_per_epoch": SECONDS,
    "versions": {"torch": str},
    "git_commit": (str, NoneType),
    "machine": {
        "processor": str,
        "cores": (int, NoneType),
        "threads": (int, NoneType),
        "gpu": (str, NoneType),
        "processes": int,
    },
}


def read_config(path: Path) -> dict[str, Any]:
    """A run's config.

    Raises:
        InputError: it is damaged.
    """
    config = read_nested(path)
    require(has_shape(config, CONFIG), f"{path} is damaged: its run is not shown")
    return config


def read_run_metrics(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's `metrics.json`.

    Raises:
        InputError: it is damaged, has no numbers, is not of this config, or lacks what is shown of it.
    """
    metrics = read_metrics(path)
    errors = {key: value for key, value in flatten(metrics).items() if "_error" in key}
    require(bool(errors), f"{path} holds no errors: delete it and start the same run again")
    wrong = next((key for key, value in errors.items() if not is_percentage(value)), None)
    require(wrong is None, f"{path}: {wrong} is {errors.get(wrong)!s:.40}, no percentage: its run is not shown")
    wanted = {**config, "epochs": config["recipe"]["epochs"], "config_hash": fingerprint(config)}
    other = next((key for key in ("name", "seed", "epochs", "config_hash") if metrics.get(key) != wanted[key]), None)
    of_what = f"not of the config beside it: {other} is {metrics.get(other)!s:.40}"
    require(other is None, f"{path} is {of_what}; its run is not shown")
    whole = has_shape(metrics, METRICS) and attacks_are_whole(metrics)
    require(whole, f"{path} is damaged: it lacks what is shown of a run, so its run is not shown")
    return metrics


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a run's epochs, as far as they are whole: a run that is at work may be writing one."""
    records: list[dict[str, Any]] = []
    for line in (read_text(path) or "").splitlines():
        record = parse_nested(line)
        if not isinstance(record, dict):
            break
        records.append(record)
    return records


def has_seconds(record: Mapping[str, Any]) -> bool:
    """Whether an epoch's record says where its seconds went, in numbers."""
    return has_shape(record, {"seconds": SECONDS})
