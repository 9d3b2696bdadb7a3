"""Which loops work on a tensor, by the device it is on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor


def of(values: Tensor) -> str | None:
    """On a CPU "compiled", on a CUDA or ROCm GPU "kernels"; elsewhere None: from there a batch goes through the CPU."""
    if values.device.type == "cpu":
        return "compiled"
    return "kernels" if values.device.type == "cuda" and _has_triton() else None


def launching_on(device: torch.device) -> AbstractContextManager[None]:
    """Inside, kernels are launched on this GPU: Triton launches on the current one, wherever its tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
