"""The verdict on a published number, against SciPy's own interval."""

import itertools
from statistics import mean, stdev

import numpy as np
import pytest
from scipy import stats

from puzzlemix.reporting.verdict import WIDEST, half_interval, judge


def test_reproduced_is_what_the_t_interval_holds():
    random = np.random.default_rng(0)
    seen = set()
    for n, published, scale in itertools.product((2, 3, 5), (19.0, 19.9, 20.0, 20.1, 21.0), (0.05, 0.3, 2.0)):
        values = random.normal(20, scale, n).tolist()
        low, high = stats.t.interval(0.95, n - 1, mean(values), stdev(values) / n**0.5)
        inside = "reproduced" if (high - low) / 2 <= WIDEST else "undecided"
        wanted = inside if low <= published <= high else "better" if high < published else "not reproduced"
        assert judge(values, published, [], tolerance=0.0).word == wanted
        assert half_interval(values) == pytest.approx((high - low) / 2)
        seen.add(wanted)
    assert seen == {"reproduced", "better", "not reproduced", "undecided"}


@pytest.mark.parametrize(
    ("values", "differences", "tolerance", "half_unit", "verdict"),
    [
        ([], [], 0.2, 0.0, "no run"),
        ([], ["recipe.epochs 2, not 1200"], 0.2, 0.0, "no run"),
        ([20.0, 20.0], ["recipe.epochs 2, not 1200"], 0.2, 0.0, "recipe differs: recipe.epochs 2, not 1200"),
        ([20.0], ["precision bf16, not fp32"], 0.2, 0.0, "recipe differs: precision bf16, not fp32"),
        ([20.0], [], 0.2, 0.0, "one seed only"),
        ([20.1, 20.1], [], 0.2, 0.0, "reproduced: +0.10, within 0.2 points"),
        ([20.3, 20.3], [], 0.2, 0.0, "not reproduced: +0.30, not 20 in 20.30 ± 0.00"),
        ([20.04, 20.04], [], 0.0, 0.05, "reproduced: 20 in 20.04 ± 0.00, the 95% interval"),  # 20.0 as printed
        ([19.5, 19.5], [], 0.2, 0.0, "better: -0.50, not 20 in 19.50 ± 0.00"),
        ([15.0, 25.0], [], 0.2, 0.0, "undecided: 20 in 20.00 ± 63.53, too wide an interval: add seeds"),
    ],
)
def test_what_is_said(values, differences, tolerance, half_unit, verdict):
    assert str(judge(values, 20.0, differences, tolerance, half_unit)) == verdict


def test_a_shortened_run_or_one_seed_is_never_a_reproduction():
    for values in ([20.0], [20.0, 20.0], [20.0, 20.1, 19.9]):
        assert judge(values, 20.0, ["recipe.epochs 40, not 1200"], tolerance=100.0).word == "recipe differs"
    assert judge([20.0], 20.0, [], tolerance=100.0).word == "one seed only"
