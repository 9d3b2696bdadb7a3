"""Loops over the images of a batch: compiled by numba, and run on all the cores that PyTorch may use.

Why numba: nothing is compiled at installation, costs stay floating point, threads share a batch without a process pool,
and a plain loop over one image stays as readable as the pseudocode that it follows. The threads are our own rather than
numba's: they are as many as `torch.get_num_threads()` (so torchrun and OMP_NUM_THREADS count), several threads may use
them at once, and a fork may follow. An extension in C++ would need a compiler, or a wheel for each platform.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cache, wraps
from importlib.util import find_spec
from itertools import count
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from puzzlemix.runtime.errors import InputError

PARTS_A_CORE = 4  # images differ in how long they take
STEPS_WORTH_THREADS = 1_000_000  # half a millisecond; to wake a thread takes a tenth of one

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}  # by process, as a fork has no threads, and number of threads
_compiling = Lock()


def backend_for(values: Tensor) -> str | None:
    """What works on a tensor: "numba" on a CPU, "triton" on a CUDA or ROCm GPU; None elsewhere.

    From a device without either, a batch goes through the CPU.
    """
    if values.device.type == "cpu":
        return "numba"
    return "triton" if values.device.type == "cuda" and _has_triton() else None


def launching_on(device: torch.device) -> AbstractContextManager[None]:
    """A context in which kernels are launched on this GPU: Triton launches on the current one, wherever tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def compiled(loop: Callable[..., None]) -> Callable[..., None]:
    """Have numba compile a loop, without Python's lock, when any such loop of its module is first called.

    Only then is numba imported. The result is kept on disk where that is possible: in `__pycache__`, else in the user's
    cache folder, else wherever NUMBA_CACHE_DIR says.
    """

    @wraps(loop)
    def compile_and_call(*arguments: Any) -> Any:
        module = loop.__globals__
        with _compiling:
            for name, value in list(module.items()):
                if hasattr(value, "loop_to_compile"):
                    module[name] = _compile(value.loop_to_compile)
        return module[loop.__name__](*arguments)

    compile_and_call.loop_to_compile = loop
    return compile_and_call


def _compile(loop: Callable[..., None]) -> Callable[..., None]:
    try:
        from numba import njit
    except ImportError as error:
        raise InputError("mixing on a CPU needs numba: pip install numba") from error
    try:
        return njit(cache=True, nogil=True)(loop)
    except RuntimeError:  # there is no folder to keep it in
        return njit(nogil=True)(loop)


def for_all_images(kernel: Callable[..., None], images: int, steps: int, *arguments: Any) -> None:
    """Call `kernel(first, last, *arguments)`, which must let go of Python's lock, for parts of 0..images - 1.

    The calling thread begins at once and others take parts as they wake. `steps` is roughly how often the innermost
    loops run in all: few are left to the calling thread.
    """
    cores = torch.get_num_threads()
    parts = min(images, PARTS_A_CORE * cores)
    if cores == 1 or parts <= 1 or steps < STEPS_WORTH_THREADS:
        kernel(0, images, *arguments)
        return
    ahead = count()  # the next part that nobody has taken; drawn from under Python's lock

    def take_parts() -> None:
        while (part := next(ahead)) < parts:
            kernel(part * images // parts, (part + 1) * images // parts, *arguments)

    key = os.getpid(), cores
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(cores - 1, thread_name_prefix="puzzlemix")
    helpers = [_pools[key].submit(take_parts) for _ in range(cores - 1)]
    take_parts()
    for helper in helpers:
        if not helper.cancel():  # too late: it has begun
            helper.result()
