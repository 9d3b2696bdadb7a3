"""Random streams that share nothing: each is started from what it is for and from the integers that fix it.

The purpose leads the entropy. Without it streams of the same seed and epoch coincide, since NumPy pads entropy with
zeros: `default_rng([seed, epoch])` and `default_rng([seed, epoch, 0])` are one and the same.
"""

from __future__ import annotations

import zlib
from numbers import Integral

import numpy as np

from puzzlemix.errors import require


def numpy_stream(purpose: str, *numbers: int) -> np.random.Generator:
    """A NumPy generator for this purpose; `numbers` are such as seed and epoch.

    Raises:
        InputError: one is no whole number, or negative.
    """
    return np.random.default_rng(_entropy(purpose, numbers))


def torch_seed(purpose: str, *numbers: int) -> int:
    """What `manual_seed` of a PyTorch generator takes, likewise."""
    return int(_entropy(purpose, numbers).generate_state(1, np.uint64)[0])


def _entropy(purpose: str, numbers: tuple[int, ...]) -> np.random.SeedSequence:
    fits = all(isinstance(number, Integral) and number >= 0 for number in numbers)
    require(fits, f"a seed must be a whole number of 0 or more, not {numbers[0]}")
    return np.random.SeedSequence([zlib.crc32(purpose.encode()), *numbers])
