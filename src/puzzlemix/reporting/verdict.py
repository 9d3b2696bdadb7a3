"""Whether a published number is reproduced: a judgement that a shortened run, one seed or a wide spread cannot win."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import mean, stdev
from typing import NamedTuple

CONFIDENCE = 0.95
WIDEST = 2.0  # half an interval in percentage points: a wider one holds the numbers of other methods too


class Verdict(NamedTuple):
    """`word` of: reproduced, better, not reproduced, undecided, one seed only, recipe differs, not measured, no run."""

    word: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}" if self.reason else self.word


def judge(
    values: Sequence[float], published: float, differences: Sequence[str], tolerance: float, half_unit: float = 0.0
) -> Verdict:
    """Set errors of several seeds beside a published one.

    Args:
        values: in percent, one a seed, of the statistic that was published.
        published: in percent.
        differences: between the run's settings and the published one's, in words; with any, it is no reproduction.
        tolerance: in percentage points; a smaller difference of the mean is none.
        half_unit: of the published number's last digit, in percentage points: it may stand for anything as near.
    """
    if not values:
        return Verdict("no run")
    if differences:
        return Verdict("recipe differs", ", ".join(differences))
    if len(values) == 1:
        return Verdict("one seed only")
    difference, half_width = mean(values) - published, half_interval(values)
    within = f"{published:g} in {mean(values):.2f} ± {half_width:.2f}"
    if abs(difference) <= half_width + half_unit:
        if half_width > WIDEST:
            return Verdict("undecided", f"{within}, too wide an interval: add seeds")
        return Verdict("reproduced", f"{within}, the {CONFIDENCE:.0%} interval")
    if abs(difference) <= tolerance:
        return Verdict("reproduced", f"{difference:+.2f}, within {tolerance:g} points")
    return Verdict("better" if difference < 0 else "not reproduced", f"{difference:+.2f}, not {within}")


def half_interval(values: Sequence[float]) -> float:
    """Half of the 95 % confidence interval of the mean of two values or more, by Student's t."""
    from scipy.stats import t  # here, since it takes a second to load

    return float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * stdev(values) / sqrt(len(values))
