"""Whether a published number is reproduced: a judgement that a shortened run, one seed or a wide spread cannot win."""

from collections.abc import Sequence
from math import sqrt
from statistics import mean, stdev
from typing import NamedTuple

from puzzlemix.reporting.paper import NOT_STATED, Published

CONFIDENCE = 0.95
WIDEST = 1.0  # half an interval in percentage points: a wider one holds the numbers of other methods too


class Verdict(NamedTuple):
    """A word, and perhaps a reason.

    The words: reproduced, better, not reproduced, undecided, one seed only, recipe differs, statistic not stated; and
    where one of the two numbers is missing: no run, not measured, not available.
    """

    word: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}" if self.reason else self.word


def judge(values: Sequence[float], published: Published, differences: Sequence[str], tolerance: float) -> Verdict:
    """Compare the errors of several seeds with a published one.

    Args:
        values: in percent, one a seed, by the statistic that was published.
        published: the number; it may stand for anything that is printed so.
        differences: between the run's settings and the published one's, in words; with any, it is no reproduction.
        tolerance: in percentage points; a smaller difference of the mean is none, unless it is `undecided`.
    """
    if differences:
        return Verdict("recipe differs", ", ".join(differences))
    if published.measured_by == NOT_STATED:
        return Verdict("statistic not stated")
    if len(values) == 1:
        return Verdict("one seed only")
    difference, half_width = mean(values) - published.number, half_interval(values, published.is_one_run)
    within = f"{published.number:g} in {mean(values):.2f} ± {half_width:.2f}"
    of_what = "one more run" if published.is_one_run else "the mean"
    if abs(difference) <= half_width + published.half_unit:
        if half_width > WIDEST:
            return Verdict("undecided", f"{within}, too wide an interval: add seeds")
        return Verdict("reproduced", f"{within}, the {CONFIDENCE:.0%} interval of {of_what}")
    if abs(difference) <= tolerance:
        return Verdict("reproduced", f"{difference:+.2f}, within {tolerance:g} points")
    return Verdict("better" if difference < 0 else "not reproduced", f"{difference:+.2f}, not {within}")


def half_interval(values: Sequence[float], of_one_run: bool = False) -> float:
    """Half of the 95 % interval by Student's t, of the mean of two values or more, or of one further value.

    A published number of a single run has a spread of its own, however many runs there are here.
    """
    from scipy.stats import t  # here, since it takes a second to load

    draws = 1 / len(values) + (1 if of_one_run else 0)
    return float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * stdev(values) * sqrt(draws)


def welch_p(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Two-sided p-value of Welch's t-test that two samples have one mean; None where it is not defined."""
    from scipy.stats import ttest_ind_from_stats  # here, since it takes a second to load

    if min(len(first), len(second)) < 2 or stdev(first) == stdev(second) == 0:
        return None
    samples = (part for values in (first, second) for part in (mean(values), stdev(values), len(values)))
    return float(ttest_ind_from_stats(*samples, equal_var=False).pvalue)
