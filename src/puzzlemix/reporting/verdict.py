"""Verdicts on whether our runs reproduce a published number, and whether methods come in the published order.

A number is reproduced if the 90 % interval of the difference lies within a margin: an equivalence test (Schuirmann,
1987), which neither one seed nor a wide spread can pass.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from math import sqrt
from statistics import mean, stdev
from typing import NamedTuple

MOST_SEEDS = 100  # proposed for a decision
P_VALUE = 0.05  # below which two methods differ


class Verdict(NamedTuple):
    """A word, and perhaps a reason.

    The words: reproduced, better, not reproduced, undecided, one seed only, recipe differs, setting not stated; and
    where there is no number of ours: no run, not measured.
    """

    word: str
    reason: str = ""


def judge(values: Sequence[float], printed: str, runs: int, margin: float) -> Verdict:
    """Compare the errors of several seeds with a published number.

    Args:
        values: errors in percent, one for each of two or more seeds.
        printed: the number as printed, which stands for all numbers that round to it.
        runs: the number of runs that it is the mean of. Their spread is not published and taken to be ours.
        margin: the largest difference in percentage points that counts as none.
    """
    difference, spread = mean(values) - float(printed), stdev(values)
    half_unit = 0.5 * 10.0 ** -len(printed.partition(".")[2])

    def word(seeds: int) -> str:
        half90, half95 = (half_unit + half_interval(spread, seeds, runs, level) for level in (0.90, 0.95))
        if abs(difference) + half90 <= margin:
            return "reproduced"
        if abs(difference) > max(half95, margin):
            return "better" if difference < 0 else "not reproduced"
        return "undecided"

    found = f"{difference:+.2f} ± {half_interval(spread, len(values), runs, 0.95):.2f}"
    if word(len(values)) != "undecided":
        return Verdict(word(len(values)), found)
    enough = next((seeds for seeds in range(len(values) + 1, MOST_SEEDS + 1) if word(seeds) != "undecided"), None)
    needed = f"{enough} seeds would decide" if enough else f"not even {MOST_SEEDS} seeds would decide"
    return Verdict("undecided", f"{found}, {needed} at this spread")


def half_interval(spread: float, seeds: int, runs: int, level: float) -> float:
    """Half the width of the interval of the difference between the means of `seeds` runs here and `runs` runs there.

    It is t s sqrt(1 / seeds + 1 / runs), with Student's t of seeds - 1 degrees of freedom. The term 1 / runs stands for
    the spread of the published number.
    """
    from scipy.stats import t  # here, since it takes a second to load

    return float(t.ppf((1 + level) / 2, seeds - 1)) * spread * sqrt(1 / seeds + 1 / runs)


def welch_p(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The two-sided p-value of Welch's t-test that two samples have one mean; None if it is not defined."""
    from scipy.stats import ttest_ind_from_stats  # here, since it takes a second to load

    if min(len(first), len(second)) < 2 or stdev(first) == stdev(second) == 0:
        return None
    samples = (part for values in (first, second) for part in (mean(values), stdev(values), len(values)))
    return float(ttest_ind_from_stats(*samples, equal_var=False).pvalue)


def significant_difference(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The mean of `second` above that of `first`, or 0 if Welch's t-test finds none; None if it is not defined."""
    p = welch_p(first, second)
    return None if p is None else (p < P_VALUE) * (mean(second) - mean(first))


def compare_order(published: Mapping[str, float], difference: Callable[[str, str], float | None], test: str) -> str:
    """A sentence on whether methods come in the published order.

    Args:
        published: the published number of each method, by label.
        difference: takes two labels, and gives how far our number of the second is above that of the first; 0 if that
            is within the noise, None if it cannot be known.
        test: what decides on the noise, in words.
    """
    pairs = [tuple(sorted(pair, key=published.__getitem__)) for pair in combinations(published, 2)]
    found = {pair: difference(*pair) for pair in pairs}
    known = {pair: above for pair, above in found.items() if above is not None}
    contradict = [f"{low} above {high}" for (low, high), above in known.items() if above < 0]
    close, few = sum(above == 0 for above in known.values()), len(pairs) - len(known)
    parts = [f"{sum(above > 0 for above in known.values())} of {len(pairs)} pairs as published"]
    parts += [f"{len(contradict)} the other way round ({'; '.join(contradict)})"] if contradict else []
    parts += [f"{close} too close to decide by {test}"] if close else []
    parts += [f"{few} without enough seeds"] if few else []
    return ", ".join(parts)
