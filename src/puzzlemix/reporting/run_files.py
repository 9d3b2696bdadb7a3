"""The files of a run's folder, read by somebody who did not write them: damaged, older, or being written just now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from puzzlemix.errors import require
from puzzlemix.nested import flatten
from puzzlemix.reporting.measures import STATISTICS, TOP1
from puzzlemix.robustness.results import NOT_AS_EXPECTED, attacks_are_whole, is_percentage
from puzzlemix.runlog import read_metrics
from puzzlemix.settings import fingerprint

YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it


def read_config(path: Path) -> dict[str, Any]:
    """A run's config.

    Raises:
        InputError: it is damaged, or of a version that did not write what is needed here.
    """
    try:
        config = yaml.load(path.read_text(), YAML_LOADER)
        fingerprint(config)
        parts = {"epochs", "phases"} <= set(config["recipe"]) and "name" in config["dataset"]
        known = isinstance(config["name"], str) and isinstance(config["seed"], int) and parts
    except (yaml.YAMLError, OSError, *NOT_AS_EXPECTED):
        known = False
    require(known, f"{path} is damaged: its run is not shown")
    choices = config.get("choices")
    of_today = "table" in config and isinstance(choices, Mapping) and {"network", "mixup"} <= set(choices)
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
    require(wrong is None, f"{path}: {wrong} is {errors.get(wrong)}, no percentage: its run is not shown")
    wanted = {**config, "epochs": config["recipe"]["epochs"], "config_hash": fingerprint(config)}
    other = next((key for key in ("name", "seed", "epochs", "config_hash") if metrics.get(key) != wanted[key]), None)
    of_what = "not of the config beside it, or of another version of this code"
    require(other is None, f"{path} is {of_what}: {other} is {metrics.get(other)}; its run is not shown")
    require(_has_what_is_shown(metrics), f"{path} is of another version of this code: it lacks what is shown of a run")
    return metrics


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a run's epochs, as far as they are whole: a run that is at work may be writing one."""
    records: list[dict[str, Any]] = []
    try:
        for line in path.read_text().splitlines():
            record = json.loads(line)
            if not isinstance(record, dict):
                break
            records.append(record)
    except (OSError, ValueError):  # also of JSON and of Unicode
        pass
    return records


def has_seconds(record: Mapping[str, Any], key: str = "seconds") -> bool:
    """Whether an epoch's record says where its seconds went, in numbers."""
    seconds = record.get(key)
    return isinstance(seconds, Mapping) and "total" in seconds and all(map(_is_number, seconds.values()))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and isfinite(value)


def _has_what_is_shown(metrics: Mapping[str, Any]) -> bool:
    try:
        errors = [metrics[TOP1.key][statistic] for statistic in STATISTICS]
        machine, commit = metrics["machine"], metrics["git_commit"] or ""
        texts = all(isinstance(text, str) for text in (metrics["evaluated_on"], commit, machine["processor"]))
        whole = texts and {"gpu", "cores", "processes"} <= set(machine) and "torch" in metrics["versions"]
        numbers = has_seconds(metrics, "seconds_per_epoch") and all(map(_is_number, errors))
        return whole and numbers and attacks_are_whole(metrics)
    except NOT_AS_EXPECTED:
        return False
