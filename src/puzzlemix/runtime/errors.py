"""Errors of one line, which name the input that cannot work and the remedy, and the checks that raise them."""

import difflib
import os
from collections.abc import Iterable
from math import inf, isfinite
from numbers import Integral, Real
from typing import Any


class InputError(ValueError):
    """The user's input cannot work. The message is one line with the remedy; scripts print nothing else."""

    def __init__(self, message: str):
        super().__init__(printable(" ".join(message.split())))  # one line, even if text of the user has more


class RunError(RuntimeError):
    """A run that has begun cannot go on. The message is one line and says what the run has kept."""


class PreemptedError(BaseException):
    """A signal asked the program to stop. Not an `Exception`, since it may be raised anywhere: see `preemption`."""

    def __init__(self, message: str = "asked to stop: the same command goes on from what was finished"):
        super().__init__(message)


def printable(text: str) -> str:
    """The text without characters that a terminal obeys, such as escapes: it may come from somebody's file."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def error_line(error: Exception) -> str:
    """`error: ` and the message, in one line. An error of another class has its type in front of the message."""
    message = str(error) if isinstance(error, InputError | RunError) else f"{type(error).__name__}: {error}"
    return "error: " + printable(" ".join(message.split()))


def require(condition: bool, message: str) -> None:
    """Raise `InputError(message)` unless `condition` holds."""
    if not condition:
        raise InputError(message)


def require_number(name: str, value: Any, low: float = 0.0, high: float = inf) -> None:
    """Raise `InputError` unless `value` is a finite number from `low` to `high`."""
    span = f"in [{low:g}, {high:g}]" if high < inf else f"finite, {low:g} or more"
    fits = isinstance(value, Real) and low <= value <= high and value < inf
    require(fits, f"{name} must be a number, {span}, not {value}")


def require_whole(name: str, value: Any, least: int, most: float = inf) -> None:
    """Raise `InputError` unless `value` is a whole number from `least` to `most`."""
    span = f"at least {least}" + (f", at most {most}" if most < inf else "")
    fits = isinstance(value, Integral) and least <= value <= most
    require(fits, f"{name} must be a whole number, {span}, not {value}")


OVERSHOOT = 0.5  # allowed outside [0, 1]; bicubic resizing stays below it, normalised images do not


def values_are_checked(device_type: str) -> bool:
    """Whether values of tensors are checked: always on a CPU; on a GPU only if PUZZLEMIX_DEBUG=1 is in the environment.

    On a GPU such a check makes the host wait.
    """
    return device_type == "cpu" or os.environ.get("PUZZLEMIX_DEBUG") == "1"


def require_pixels(images: Any, overshoot: float = 0.0) -> tuple[float, float]:
    """The range of a tensor's values; `InputError` unless they are finite and at most `overshoot` outside [0, 1].

    This waits for a GPU.
    """
    if images.numel() == 0:
        return 0.0, 1.0
    low, high = (float(end) for end in images.detach().aminmax())  # both are NaN if any value is
    is_finite = isfinite(low) and isfinite(high)
    if is_finite and -overshoot <= low and high <= 1 + overshoot:
        return low, high
    if not is_finite:
        remedy = "find the step that makes some of them NaN or infinite"
    elif high > 10:  # normalised pixels hardly reach it
        remedy = "divide them by 255"
    elif low < -OVERSHOOT or high > 1 + OVERSHOOT:
        remedy = "normalise inside the network, or give PuzzleMix the mean and std that they were normalised with"
    else:
        remedy = "clamp them, since resizing can leave [0, 1]"
    raise InputError(f"images must be pixels in [0, 1], not from {low:.3g} to {high:.3g}: {remedy}")


def nearest(name: str, valid: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` with the valid name nearest to `name`; if none is near, a list of the valid names."""
    valid = [str(v) for v in valid]
    close = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    shown = sorted(v for v in valid if "." not in v) or sorted(valid)
    return f"; valid: {', '.join(shown) or 'none'}"


def require_choice(what: str, value: str, valid: Iterable[str]) -> None:
    """Raise `InputError`, with the nearest valid name, unless `value` is one of `valid`."""
    valid = list(valid)
    require(value in valid, f"unknown {what} '{value}'{nearest(value, valid)}")
