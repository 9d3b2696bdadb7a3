"""What runs measure: errors, clean and under the attacks that published numbers are of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

STATISTICS = ("median10", "last", "best")


class Measure(NamedTuple):
    """An error in percent.

    Attributes:
        key: what `metrics.json` and `compare.py add` call it.
        title: of its column.
        published_as: what sources call it.
        attack: the settings of the attack, as in `configs/attack/`; None: there is none, and an error has `STATISTICS`.
    """

    key: str
    title: str
    published_as: str
    attack: Mapping[str, Any] | None = None


def _attack(eps_255: float, step_255: float, steps: int) -> dict[str, Any]:
    return {"eps_255": eps_255, "step_255": step_255, "steps": steps, "random_start": steps > 1}


TOP1 = Measure("top1_error", "top-1 error %", "top1_error")
TOP5 = Measure("top5_error", "top-5 error %", "top5_error")
FGSM8 = Measure("fgsm8_error", "FGSM 8/255 %", "fgsm8_error", _attack(8, 8, 1))
PGD20_EPS4 = Measure("pgd20_eps4_error", "PGD-20 4/255 %", "pgd20_eps4_step2_accuracy", _attack(4, 2, 20))
PGD7_EPS4 = Measure("pgd7_eps4_error", "PGD-7 4/255 %", "pgd7_eps4_step1_accuracy", _attack(4, 1, 7))
PGD7_EPS8 = Measure("pgd7_eps8_error", "PGD-7 8/255 %", "pgd7_eps8_step2_accuracy", _attack(8, 2, 7))

MEASURES = (TOP1, TOP5, FGSM8, PGD20_EPS4, PGD7_EPS4, PGD7_EPS8)
BY_NAME = {name: measure for measure in MEASURES for name in (measure.key, measure.published_as)}
