"""Input that cannot work: one line that names it and says what to do instead."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from math import inf
from numbers import Integral, Real
from typing import Any


class InputError(ValueError):
    """What the user gave cannot work. The message is one line and holds the remedy; the scripts print just that."""

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))  # one line, also where it shows what was given


class RunError(RuntimeError):
    """A run that started well cannot go on. The message is one line and says what is left to go on from."""


class PreemptedError(BaseException):
    """A signal asked the program to stop. The message is one line.

    Like a `KeyboardInterrupt` it may be raised anywhere, so it must not be caught as an `Exception`.
    """

    def __init__(self, message: str = "asked to stop: the same command goes on from what was finished"):
        super().__init__(message)


def one_line(error: Exception) -> str:
    """`error: ` and its message, as the scripts print it."""
    return "error: " + " ".join(str(error).split())


def told(error: Exception) -> str:
    """`one_line`, with its type where the error is none of ours: its message alone may say nothing."""
    if isinstance(error, InputError | RunError):
        return one_line(error)
    return "error: " + " ".join(f"{type(error).__name__}: {error}".split())


def require(condition: bool, message: str) -> None:
    """Raise `InputError(message)` unless `condition` holds."""
    if not condition:
        raise InputError(message)


def require_number(name: str, value: Any, low: float = 0.0, high: float = inf) -> None:
    """Raise `InputError` unless `value` is a finite number from `low` to `high`."""
    span = f"in [{low:g}, {high:g}]" if high < inf else f"finite, {low:g} or more"
    fits = isinstance(value, Real) and low <= value <= high and value < inf
    require(fits, f"{name} must be a number, {span}, not {value}")


def require_whole(name: str, value: Any, least: int) -> None:
    """Raise `InputError` unless `value` is a whole number of `least` or more."""
    require(
        isinstance(value, Integral) and value >= least, f"{name} must be a whole number, at least {least}, not {value}"
    )


def values_are_looked_at(device_type: str) -> bool:
    """Whether tensors there are searched for wrong values; on a GPU, which waits for that, with PUZZLEMIX_DEBUG=1."""
    return device_type == "cpu" or os.environ.get("PUZZLEMIX_DEBUG") == "1"


def require_pixels(images: Any) -> None:
    """Raise `InputError` unless all values of a tensor lie in [0, 1]; a GPU is waited for."""
    in_range = images.numel() == 0 or (images.min() >= 0 and images.max() <= 1)
    require(bool(in_range), "images must be pixels in [0, 1]: normalisation belongs inside the network")


def nearest(name: str, valid: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` with the valid name nearest to `name`, or valid ones where none is near."""
    valid = [str(v) for v in valid]
    close = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    shown = sorted(v for v in valid if "." not in v) or sorted(valid)
    return f"; valid: {', '.join(shown) or 'none'}"


def require_choice(what: str, value: str, valid: Iterable[str]) -> None:
    """Raise `InputError` with the nearest valid name unless `value` is one of `valid`."""
    valid = list(valid)
    require(value in valid, f"unknown {what} '{value}'{nearest(value, valid)}")
