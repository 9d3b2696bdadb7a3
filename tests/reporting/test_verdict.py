"""The verdict on a published number, against SciPy's own interval."""

import itertools
from statistics import mean, stdev

import numpy as np
import pytest
from scipy import stats

from puzzlemix.reporting.paper import Published
from puzzlemix.reporting.verdict import WIDEST, half_interval, judge, welch_p


def published(value, statistic="median of last 10 epochs"):
    empty = Published(*[""] * len(Published._fields))
    return empty._replace(metric="top1_error", value=value, statistic=statistic)


def test_reproduced_is_what_the_t_interval_holds():
    random = np.random.default_rng(0)
    seen = set()
    for n, value, scale in itertools.product((2, 3, 5), ("19", "19.9", "20", "20.1", "21"), (0.05, 0.3, 2.0)):
        values, exactly = random.normal(20, scale, n).tolist(), published(f"{float(value):.9f}")
        low, high = stats.t.interval(0.95, n - 1, mean(values), stdev(values) / n**0.5)
        inside = "reproduced" if (high - low) / 2 <= WIDEST else "undecided"
        wanted = inside if low <= float(value) <= high else "better" if high < float(value) else "not reproduced"
        assert judge(values, exactly, [], tolerance=0.0).word == wanted
        assert half_interval(values) == pytest.approx((high - low) / 2)
        seen.add(wanted)
    assert seen == {"reproduced", "better", "not reproduced", "undecided"}


@pytest.mark.parametrize("n", [2, 3, 10])
def test_the_interval_of_one_more_run_holds_95_percent_of_them(n):
    random = np.random.default_rng(n)
    draws = random.normal(20, 0.3, (4000, n + 1))
    inside = [abs(mean(here) - other) <= half_interval(here, of_one_run=True) for *here, other in draws.tolist()]
    assert mean(inside) == pytest.approx(0.95, abs=0.015)


SHORTENED = ["recipe.epochs 2, not 1200"]


@pytest.mark.parametrize(
    ("values", "value", "differences", "verdict"),
    [
        ([20.0, 20.0], "20.00", SHORTENED, "recipe differs: recipe.epochs 2, not 1200"),
        ([20.0], "20.00", SHORTENED, "recipe differs: recipe.epochs 2, not 1200"),
        ([20.0], "20.00", [], "one seed only"),
        ([20.1, 20.1], "20.00", [], "reproduced: +0.10, within 0.2 points"),
        ([20.3, 20.3], "20.00", [], "not reproduced: +0.30, not 20 in 20.30 ± 0.00"),
        ([20.04, 20.04], "20.0", [], "reproduced: 20 in 20.04 ± 0.00, the 95% interval of the mean"),  # as printed
        ([19.5, 19.5], "20.00", [], "better: -0.50, not 20 in 19.50 ± 0.00"),
        ([15.0, 25.0], "20.00", [], "undecided: 20 in 20.00 ± 63.53, too wide an interval: add seeds"),
        ([18.62, 18.92], "20.6", [], "undecided: 20.6 in 18.77 ± 1.91, too wide an interval: add seeds"),
    ],
)
def test_what_is_said(values, value, differences, verdict):
    assert str(judge(values, published(value), differences, tolerance=0.2)) == verdict


def test_a_single_published_run_is_set_beside_one_more_run():
    values = [19.90, 19.95, 20.00]
    assert judge(values, published("19.66"), [], tolerance=0.2).word == "not reproduced"
    one_run = published("19.80", "last epoch, single run seed 0")
    assert str(judge(values, one_run, [], 0.0)) == "reproduced: 19.8 in 19.95 ± 0.25, the 95% interval of one more run"


def test_a_number_whose_statistic_is_not_stated_is_not_judged():
    number = published("22.49", "paper value as quoted by a user")
    assert str(judge([22.5, 22.5, 22.6], number, [], tolerance=0.2)) == "statistic not stated"


def test_a_shortened_run_or_one_seed_is_never_a_reproduction():
    for values in ([20.0], [20.0, 20.0], [20.0, 20.1, 19.9]):
        assert judge(values, published("20.0"), SHORTENED, tolerance=100.0).word == "recipe differs"
    assert judge([20.0], published("20.0"), [], tolerance=100.0).word == "one seed only"


def test_welchs_p_is_scipys_on_the_samples_and_undefined_without_spread():
    random = np.random.default_rng(0)
    for n, m in ((2, 2), (3, 5), (10, 4)):
        first, second = random.normal(6, 0.5, n).tolist(), random.normal(5, 1.5, m).tolist()
        assert welch_p(first, second) == pytest.approx(stats.ttest_ind(first, second, equal_var=False).pvalue)
    assert welch_p([5.0], [4.0, 6.0]) is None
    assert welch_p([5.0, 5.0], [4.0, 4.0]) is None
    assert welch_p([5.0, 5.0], [4.0, 6.0]) == 1.0
