"""Ablations found in runs: rows that differ in one setting of their method and in nothing else."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from puzzlemix.reporting.runs import Row


class Ablation(NamedTuple):
    """One setting's values and the errors that they gave.

    Attributes:
        method: the option of `mixup`.
        key: the setting, such as mixup.beta.
        points: its values, numbers in their order, with the `median10` errors of several seeds in percent.
    """

    method: str
    key: str
    points: list[tuple[Any, list[float]]]


def find_ablations(rows: Iterable[Row]) -> list[Ablation]:
    """All settings of methods in which at least two finished rows of one table differ, and in nothing else."""
    groups: dict[tuple[str, str, str], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        settings, method = row.settings, row.runs[0].method
        if row.finished:
            for key in (key for key in settings if key.startswith("mixup.") and key != "mixup._target_"):
                others = json.dumps({name: value for name, value in settings.items() if name != key}, sort_keys=True)
                groups[method, key, others].setdefault(json.dumps(settings[key]), row)
    return [
        Ablation(method, key, _points(key, list(by_value.values())))
        for (method, key, _), by_value in sorted(groups.items())
        if len(by_value) > 1
    ]


def _points(key: str, rows: list[Row]) -> list[tuple[Any, list[float]]]:
    points = [(row.settings[key], row.values("top1_error", "median10")) for row in rows]
    numbers = all(isinstance(value, int | float) for value, _ in points)
    return sorted(points, key=lambda point: point[0] if numbers else str(point[0]))
