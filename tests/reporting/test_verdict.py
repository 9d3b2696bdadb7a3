"""The verdict on a published number, with SciPy's intervals and with simulated experiments as oracles."""

import itertools
from statistics import mean, stdev

import numpy as np
import pytest
from scipy import stats

from puzzlemix.reporting.verdict import compare_order, half_interval, judge, significant_difference, welch_p


def test_reproduced_and_different_are_what_the_t_intervals_say():
    random = np.random.default_rng(0)
    seen = set()
    for n, runs, value, scale in itertools.product((2, 3, 8), (1, 3), (19, 19.6, 20, 20.3, 21.5), (0.02, 0.2, 2.0)):
        values = random.normal(20, scale, n).tolist()
        error = stdev(values) * (1 / n + 1 / runs) ** 0.5
        low90, high90 = stats.t.interval(0.90, n - 1, mean(values) - value, error)
        low95, high95 = stats.t.interval(0.95, n - 1, mean(values) - value, error)
        wanted = "undecided"
        if low90 >= -0.5 and high90 <= 0.5:
            wanted = "reproduced"
        elif abs(mean(values) - value) > 0.5 and (high95 < 0 or low95 > 0):
            wanted = "better" if high95 < 0 else "not reproduced"
        assert judge(values, f"{value:.9f}", runs, margin=0.5).word == wanted
        seen.add(wanted)
    assert seen == {"reproduced", "better", "not reproduced", "undecided"}


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("runs", [1, 3])
def test_the_interval_holds_95_percent_of_published_numbers_of_the_same_method(n, runs):
    random = np.random.default_rng(n)
    draws = random.normal(20, 0.3, (4000, n + runs))
    inside = [abs(mean(d[:n]) - mean(d[n:])) <= half_interval(stdev(d[:n]), n, runs, 0.95) for d in draws.tolist()]
    assert mean(inside) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("spread", [0.05, 0.2, 1.0])
def test_a_method_that_is_worse_by_the_margin_is_seldom_called_reproduced(n, spread):
    random = np.random.default_rng(n)
    wrong = [
        judge(random.normal(20.5, spread, n).tolist(), f"{random.normal(20, spread):.9f}", 1, margin=0.5).word
        for _ in range(500)
    ]
    assert wrong.count("reproduced") <= 0.05 * 500 + 3 * (0.05 * 0.95 * 500) ** 0.5


@pytest.mark.parametrize(
    ("values", "printed", "margin", "word"),
    [
        ([20.33, 20.47], "19.60", 0.5, "undecided"),  # two seeds have a wide interval, which shows nothing
        ([20.40, 20.40, 20.40], "19.60", 0.5, "not reproduced"),
        ([19.60, 19.61, 19.62], "19.60", 0.5, "reproduced"),
        ([18.10, 18.11, 18.12], "19.60", 0.5, "better"),
        ([19.20, 19.60, 20.00], "19.60", 0.5, "undecided"),  # the right mean is not enough
        ([57.0, 57.1, 58.0, 58.1], "57.11", 1.5, "undecided"),
        ([57.0, 57.1, 57.3, 57.4], "57.11", 1.5, "reproduced"),
        ([20.0, 20.0], "20", 0.5, "reproduced"),  # 20 stands for 19.5 to 20.5
        ([20.1, 20.1], "20", 0.5, "undecided"),
    ],
)
def test_what_is_said(values, printed, margin, word):
    assert judge(values, printed, 1, margin).word == word


def test_the_seeds_that_are_proposed_decide_at_this_spread():
    values = [19.9, 19.6, 19.7]
    verdict = judge(values, "19.60", 3, margin=0.5)
    assert verdict.word == "undecided"
    proposed = int(verdict.reason.split(", ")[1].split()[0])
    for seeds, is_decided in ((proposed - 1, False), (proposed, True)):
        like = np.random.default_rng(0).normal(0, 1, seeds)
        like = mean(values) + stdev(values) * (like - like.mean()) / like.std(ddof=1)
        assert (judge(like.tolist(), "19.60", 3, margin=0.5).word != "undecided") == is_decided


def test_a_spread_that_no_number_of_seeds_decides_is_named():
    verdict = judge([18.0, 20.0, 22.0], "20.00", 1, margin=0.5)
    assert verdict.reason.endswith("not even 100 seeds would decide at this spread")


def test_welchs_p_is_scipys_on_the_samples_and_undefined_without_spread():
    random = np.random.default_rng(0)
    for n, m in itertools.product((2, 3, 6), (2, 5)):
        first, second = random.normal(20, 0.3, n), random.normal(20.4, 0.6, m)
        wanted = stats.ttest_ind(first, second, equal_var=False).pvalue
        assert welch_p(first.tolist(), second.tolist()) == pytest.approx(wanted)
    assert welch_p([20.0], [19.0, 18.0]) is None
    assert welch_p([20.0, 20.0], [19.0, 19.0]) is None


def test_the_order_of_methods_counts_pairs():
    published = {"Vanilla": 23.67, "CutMix": 23.20, "Puzzle Mix": 19.62, "AugMix": 24.69}
    here = {
        "Vanilla": [23.5, 23.6, 23.7],
        "CutMix": [24.5, 24.6, 24.7],  # published below vanilla
        "Puzzle Mix": [19.5, 19.6, 19.7],
        "AugMix": [24.7],
    }
    assert order(here, published) == (
        "2 of 6 pairs as published, 1 the other way round (CutMix above Vanilla), 3 without enough seeds"
    )
    close = order({"Vanilla": [23.0, 24.0, 25.0], "CutMix": [23.1, 24.1, 25.1]}, published)
    assert close == "0 of 1 pairs as published, 1 too close to decide by a test"


def order(here, published):
    published = {name: published[name] for name in here}
    return compare_order(published, lambda low, high: significant_difference(here[low], here[high]), "a test")
