"""The files of a run's folder, read by somebody who did not write them: damaged, older, or being written just now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from puzzlemix.errors import require
from puzzlemix.nested import flatten, has_shape, is_number, is_percentage, parse_nested, read_nested, read_text
from puzzlemix.reporting.measures import STATISTICS, TOP1, TOP5
from puzzlemix.robustness.results import attacks_are_whole
from puzzlemix.runlog import read_metrics
from puzzlemix.settings import fingerprint

# What is used of each file.
CONFIG = {
    "name": str,
    "seed": int,
    "dataset": {"name": (str, int)},
    "network": dict,
    "mixup": dict,
    "recipe": {"epochs": int, "phases": list},
}
CONFIG_OF_TODAY = {"table": (str, int), "choices": {"network": str, "mixup": str}}
SECONDS = {"total": is_number, "*": is_number}
METRICS = {
    **dict.fromkeys((TOP1.key, TOP5.key), dict.fromkeys(STATISTICS, is_percentage)),
    "evaluated_on": str,
    "seconds_per_epoch": SECONDS,
    "versions": {"torch": str},
    "git_commit": (str, NoneType),
    "machine": {"processor": str, "cores": (int, NoneType), "threads?": int, "gpu": (str, NoneType), "processes": int},
}


def read_config(path: Path) -> dict[str, Any]:
    """A run's config.

    Raises:
        InputError: it is damaged, or of a version that did not write what is needed here.
    """
    config = read_nested(path)
    require(has_shape(config, CONFIG), f"{path} is damaged: its run is not shown")
    of_today = has_shape(config, CONFIG_OF_TODAY)
    require(of_today, f"{path} is of an older version of this code, which named no table: its run is not shown")
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
    of_what = "not of the config beside it, or of another version of this code"
    require(other is None, f"{path} is {of_what}: {other} is {metrics.get(other)!s:.40}; its run is not shown")
    whole = has_shape(metrics, METRICS) and attacks_are_whole(metrics)
    require(whole, f"{path} is of another version of this code: it lacks what is shown of a run")
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
