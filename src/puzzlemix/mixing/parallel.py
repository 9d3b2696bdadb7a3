"""Loops over the images of a batch, which numba compiles and which run on as many threads as PyTorch may use.

With numba nothing is compiled at installation, and a plain loop over one image stays as readable as pseudocode. The
threads are this module's own, not numba's. So they follow `torch.get_num_threads()` (and with it torchrun and
OMP_NUM_THREADS), several callers can use them at once, and the process may fork.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from importlib.util import find_spec
from itertools import count
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from puzzlemix.runtime.errors import InputError

HAS_TRITON = find_spec("triton") is not None
PARTS_PER_THREAD = 4  # because images differ in how long they take
STEPS_WORTH_THREADS = 1_000_000  # half a millisecond of work; waking a thread takes 0.1 ms

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}  # by process, as a fork has no threads, and by number of threads
_compiling = Lock()


def backend_for(values: Tensor) -> str | None:
    """The backend for a tensor: "numba" on a CPU, "triton" on a CUDA or ROCm GPU, None on other devices."""
    if values.device.type == "cpu":
        return "numba"
    return "triton" if values.device.type == "cuda" and HAS_TRITON else None


def compiled(loop: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator with which numba compiles a loop, without Python's global lock.

    It imports numba and compiles all such loops of a module when one of them is first called. The result is cached on
    disk if possible: in `__pycache__`, in the user's cache folder, or in NUMBA_CACHE_DIR.
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


def _compile(loop: Callable[..., Any]) -> Callable[..., Any]:
    try:
        from numba import njit
    except ImportError as error:
        raise InputError("mixing on a CPU needs numba: pip install numba") from error
    try:
        return njit(cache=True, nogil=True)(loop)
    except RuntimeError:  # numba cannot write to any cache folder
        return njit(nogil=True)(loop)


def for_all_images(kernel: Callable[..., None], images: int, steps: int, *arguments: Any) -> None:
    """Call the compiled `kernel(first, last, *arguments)` for ranges that cover 0..images - 1, on several threads.

    `steps` is roughly the total number of innermost iterations; if it is small, the calling thread does all the work.
    """
    threads = torch.get_num_threads()
    parts = min(images, PARTS_PER_THREAD * threads)
    if threads == 1 or parts <= 1 or steps < STEPS_WORTH_THREADS:
        kernel(0, images, *arguments)
        return
    ahead = count()  # the next part that no thread has taken; `next` is atomic under Python's global lock

    def take_parts() -> None:
        while (part := next(ahead)) < parts:
            kernel(part * images // parts, (part + 1) * images // parts, *arguments)

    key = os.getpid(), threads
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(threads - 1, thread_name_prefix="puzzlemix")
    helpers = [_pools[key].submit(take_parts) for _ in range(threads - 1)]
    take_parts()
    for helper in helpers:
        if not helper.cancel():  # it has begun
            helper.result()
