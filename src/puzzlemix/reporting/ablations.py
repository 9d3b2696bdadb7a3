"""Ablations found in runs: rows that differ in one setting of their method and in nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from puzzlemix.reporting.measures import TOP1
from puzzlemix.reporting.runs import Row
from puzzlemix.training.settings import canonical


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


class Point(NamedTuple):
    """A value of a setting, and its runs' errors by their seeds: rows of several names may have it."""

    value: Any
    errors: dict[int, float]


def find_ablations(rows: Iterable[Row]) -> list[Ablation]:
    """All settings of methods in which finished runs of one table differ, and in nothing else but the seed."""
    groups: dict[tuple[str, str, tuple], dict[str, Point]] = defaultdict(dict)
    for row in rows:
        settings, method = row.settings, row.runs[0].method
        texts = {key: canonical(value) for key, value in sorted(settings.items())}
        for key in (key for key in settings if key.startswith("mixup.") and key != "mixup._target_"):
            others = tuple(text for other, text in texts.items() if other != key)
            point = groups[method, key, others].setdefault(texts[key], Point(settings[key], {}))
            point.errors.update({run.seed: run.error(TOP1, "median10") for run in row.finished})
    found = []
    for (method, key, _), by_value in sorted(groups.items()):
        points = [point for point in by_value.values() if point.errors]
        if len(points) > 1:
            points.sort(key=lambda point: order_of(point.value))
            found.append(Ablation(method, key, [(point.value, list(point.errors.values())) for point in points]))
    return found


def order_of(value: Any) -> tuple[bool, float, str]:
    """Numbers first, by size, then the rest by how it is written."""
    number = isinstance(value, int | float)
    return not number, value if number else 0.0, str(value)
