"""How a run computes: precision, memory layout, kernels. Nothing here changes what is computed but by rounding.

What each setting costs and gains: `python -m benchmarks training`.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from puzzlemix.runtime.errors import require, require_choice

PRECISIONS = ("fp32", "tf32", "bf16")
FLOATS_OF_A_VECTOR = 16  # in AVX-512; with narrower ones less would do
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
COMPILED_VARIANTS = 256  # of a part: by batch size, mode and gradients; torch gives up, with a warning, at 8


@dataclass(frozen=True)
class Arithmetic:
    """The settings of `configs/train.yaml` of the same names.

    Args:
        precision: of convolutions and matrix products while training. `fp32`; `tf32`, float32 with 10 bits of mantissa
            in its products, on GPUs since Ampere; `bf16`, mixed precision by autocast. Weights, losses, batch norm
            statistics, evaluation and attacks are float32 in all three.
        channels_last: keep the weights of convolutions, and so hidden states, with channels innermost; but not on a CPU
            in a network that oneDNN cannot train so, as few as its channels are.
        compile: fuse kernels by torch.compile.
        fused: update all weights in one kernel.
        deterministic: only kernels whose result is the same in every run.

    Raises:
        InputError: a setting is not among those possible.
    """

    precision: str = "fp32"
    channels_last: bool = True
    compile: bool = False
    fused: bool = True
    deterministic: bool = False

    def __post_init__(self) -> None:
        require_choice("precision", self.precision, PRECISIONS)
        for name in ("channels_last", "compile", "fused", "deterministic"):
            value = getattr(self, name)
            require(isinstance(value, bool), f"{name} must be true or false, not {value}")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Arithmetic:
        """The settings in a run's config."""
        return cls(**{name: config[name] for name in cls.__dataclass_fields__})

    def prepare(self, network: nn.Module) -> None:
        """Bring a network, already on its device, and this process into the state that the settings ask for.

        A network is compiled part by part, in place: hooks on a part, as manifold mixup's on a stage, run between
        compiled code, where inside of it they would be passed over, and names in the state dict stay.
        """
        compute_in_float32(self.deterministic)
        _keep_freed_memory()
        if self.channels_last and not _overruns_channels_last(network):
            network.to(memory_format=torch.channels_last)
        if self.compile:
            torch._dynamo.config.recompile_limit = COMPILED_VARIANTS
            for part in network.children():
                part.forward = torch.compile(part.forward, dynamic=False)

    @contextmanager
    def reduced(self, device: torch.device) -> Iterator[None]:
        """Inside, forward and backward passes have the run's precision; outside, they are in float32."""
        if self.precision == "bf16":
            with torch.autocast(device.type, torch.bfloat16):
                yield
        elif self.precision == "tf32":
            _allow_tf32(True)
            try:
                yield
            finally:
                _allow_tf32(False)
        else:
            yield


def compute_in_float32(deterministic: bool = False) -> None:
    """Make float32 mean float32 in this process, on a GPU too, and kernels the fastest, or the same in every run."""
    _allow_tf32(False)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
    torch.use_deterministic_algorithms(deterministic)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it, at its first call


def _keep_freed_memory() -> None:
    """Have the C library keep what is freed, up to 2 GiB, for the next step.

    glibc hands the memory of large tensors back, and each page of it costs a fault when it is touched again: 5 to 10 %
    of a step on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # which glibc has
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**25)  # bytes, the most that it takes
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _overruns_channels_last(network: nn.Module) -> bool:
    """Whether a backward pass with channels innermost would write past its memory, by a fault of oneDNN (issue 6035).

    It is in strided convolutions of one pixel on a CPU, of fewer channels than fill a vector; the process crashes, or
    goes on with wrong numbers.
    """
    return any(
        part.kernel_size == (1, 1) and max(part.stride) > 1 and part.in_channels < FLOATS_OF_A_VECTOR
        for part in network.modules()
        if isinstance(part, nn.Conv2d) and part.weight.device.type == "cpu"
    )


def _allow_tf32(allowed: bool) -> None:
    """By the older of PyTorch's two interfaces: torch.compile breaks on the newer one (pytorch issue 166387)."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed  # which PyTorch allows unless told otherwise
