"""Spans of time."""

import time

import pytest

from puzzlemix.runtime.stopwatch import Stopwatch


def test_an_inner_span_is_not_counted_in_the_outer_one():
    stopwatch = Stopwatch()
    start = time.perf_counter()
    with stopwatch("outer"):
        time.sleep(0.02)
        with stopwatch("inner"):
            time.sleep(0.05)
    whole = time.perf_counter() - start
    seconds = stopwatch.pop()
    assert 0.05 <= seconds["inner"] < whole
    assert 0.02 <= seconds["outer"] < whole - 0.049
    assert seconds["inner"] + seconds["outer"] == pytest.approx(whole, abs=0.01)


def test_spans_add_up_and_start_anew():
    stopwatch = Stopwatch()
    for _ in range(3):
        with stopwatch("part"):
            time.sleep(0.01)
    assert stopwatch.pop()["part"] >= 0.03
    assert stopwatch.pop() == {}


def test_a_span_that_ends_in_an_error_is_closed():
    stopwatch = Stopwatch()
    with pytest.raises(KeyError), stopwatch("part"):
        raise KeyError
    with stopwatch("other"):
        pass
    assert set(stopwatch.pop()) == {"part", "other"}
