"""Which loops work on a tensor, by the device it is on."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

from torch import Tensor


def of(values: Tensor) -> str | None:
    """On a CPU "compiled", on a CUDA or ROCm GPU "kernels"; elsewhere None: from there a batch goes through the CPU."""
    if values.device.type == "cpu":
        return "compiled"
    return "kernels" if values.device.type == "cuda" and _has_triton() else None


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
