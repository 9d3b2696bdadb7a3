"""Random streams that are independent: each starts from its purpose and from integers such as seed and epoch.

The purpose comes first in the entropy. Without it, streams of the same seed and epoch would coincide, since NumPy pads
entropy with zeros: `default_rng([seed, epoch])` and `default_rng([seed, epoch, 0])` are one and the same.
"""

import random
import zlib
from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np
import torch

from puzzlemix.runtime.errors import require


def numpy_stream(purpose: str, *numbers: int) -> np.random.Generator:
    """A NumPy generator for this purpose and these numbers; raises `InputError` if one is negative or not whole."""
    return np.random.default_rng(_entropy(purpose, numbers))


def torch_seed(purpose: str, *numbers: int) -> int:
    """The seed of a PyTorch generator for this purpose and these numbers; raises as `numpy_stream` does."""
    return int(_entropy(purpose, numbers).generate_state(1, np.uint64)[0])


def seed_global_streams(purpose: str, *numbers: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch: dropout draws from them, and users' code may."""
    torch.manual_seed(torch_seed(purpose, *numbers))  # seeds all devices
    seeds = _entropy(purpose, numbers).generate_state(2)
    random.seed(int(seeds[0]))
    np.random.seed(seeds[1])


def global_streams(device: torch.device) -> dict[str, Any]:
    """The states of the global generators, in types that a checkpoint may hold."""
    name, key, *rest = np.random.get_state()
    states = {"python": random.getstate(), "numpy": (name, key.tolist(), *rest), "torch": torch.get_rng_state()}
    return states | ({"device": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def restore_global_streams(states: Mapping[str, Any], device: torch.device) -> None:
    """Give the global generators the states of `global_streams`."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "device" in states:
        torch.cuda.set_rng_state(states["device"], device)


def _entropy(purpose: str, numbers: tuple[int, ...]) -> np.random.SeedSequence:
    fits = all(isinstance(number, Integral) and number >= 0 for number in numbers)
    require(fits, f"a seed must be a whole number of 0 or more, not {numbers[0]}")
    return np.random.SeedSequence([zlib.crc32(purpose.encode()), *numbers])
