"""The arithmetic of a run: its precision, memory layout and kernels. They change results by rounding only.

`python -m benchmarks training` measures what each setting costs and gains.
"""

import ctypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn

from puzzlemix.runtime.errors import require, require_choice

PRECISIONS = ("fp32", "tf32", "bf16")
FLOATS_OF_A_VECTOR = 16  # in AVX-512; narrower vectors would allow fewer channels
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # constants of glibc's malloc.h
COMPILED_VARIANTS = 256  # for each part, by batch size, mode and gradients; torch's default, 8, is too low


@dataclass(frozen=True)
class Arithmetic:
    """The settings of the same names in `configs/train.yaml`.

    Args:
        precision: the precision of convolutions and matrix products in training: `fp32`; `tf32`, float32 with products
            of 10 bits of mantissa, on GPUs since Ampere; `bf16`, mixed precision by autocast. Weights, losses, batch
            norm statistics, evaluation and attacks are float32 in all three.
        channels_last: keep the weights of convolutions, and so hidden states, with channels innermost. Networks with
            too few channels for oneDNN on a CPU keep PyTorch's default format.
        compile: fuse kernels by torch.compile.
        fused: update all weights in one kernel.
        deterministic: use only kernels that give the same result in every run.

    Raises:
        InputError: a setting has a value that is not possible.
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
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The settings of a run's config."""
        return cls(**{name: config[name] for name in cls.__dataclass_fields__})

    def prepare(self, network: nn.Module) -> None:
        """Apply the settings to this process and to a network, which is on its device already.

        A network is compiled part by part, in place. So names in the state dict stay the same. Hooks on a part, such as
        manifold mixup's on a stage, run between compiled parts. Inside compiled code they would not run.
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
        """Run the passes of this block in the run's precision. Outside such blocks passes are in float32."""
        _allow_tf32(self.precision == "tf32")
        try:
            with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                yield
        finally:
            _allow_tf32(False)


def compute_in_float32(deterministic: bool = False) -> None:
    """Make this process compute in full float32, with the fastest kernels, or with those that are deterministic."""
    _allow_tf32(False)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
    torch.use_deterministic_algorithms(deterministic)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it at its first call


def _keep_freed_memory() -> None:
    """Make the C library keep freed memory, up to 2 GiB, for the next step.

    glibc returns the memory of large tensors to the system, and each of its pages costs a fault when it is used again:
    5 to 10 % of a step on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # only glibc has it
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**25)  # bytes, the largest value that it accepts
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _overruns_channels_last(network: nn.Module) -> bool:
    """Whether a backward pass with channels innermost would write past its memory, a bug of oneDNN (its issue 6035).

    The bug is in strided 1 x 1 convolutions on a CPU with fewer channels than fill a vector. The process crashes, or
    goes on with wrong numbers.
    """
    return any(
        part.kernel_size == (1, 1) and max(part.stride) > 1 and part.in_channels < FLOATS_OF_A_VECTOR
        for part in network.modules()
        if isinstance(part, nn.Conv2d) and part.weight.device.type == "cpu"
    )


def _allow_tf32(allowed: bool) -> None:
    """Use the older of PyTorch's two interfaces: torch.compile breaks on the newer one (pytorch issue 166387)."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed  # PyTorch's default is True
