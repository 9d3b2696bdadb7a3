"""Compiled loops over the images of a batch, on all cores that PyTorch may use, without processes.

Threads of our own rather than numba's: they are as many as `torch.get_num_threads()` (so torchrun's and OMP_NUM_THREADS
count), may be used from several threads at once, and a fork may follow.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

PARTS_A_CORE = 2  # images differ in how long they take
STEPS_WORTH_THREADS = 2_000_000  # about a millisecond; to wake a thread takes a tenth of one

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}  # by process, as a fork has no threads, and number of threads


def for_all_images(kernel: Callable[..., None], images: int, steps: int, *arguments: Any) -> None:
    """Call `kernel(first, last, *arguments)`, which must let go of Python's lock, for parts of 0..images - 1.

    `steps` is roughly how often the innermost loops run in all: few are done at once, without threads.
    """
    cores = torch.get_num_threads()
    parts = min(images, PARTS_A_CORE * cores)
    if cores == 1 or parts <= 1 or steps < STEPS_WORTH_THREADS:
        kernel(0, images, *arguments)
        return
    key = os.getpid(), cores
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(cores, thread_name_prefix="puzzlemix")
    edges = [i * images // parts for i in range(parts + 1)]
    futures = [_pools[key].submit(kernel, *edges[i : i + 2], *arguments) for i in range(parts)]
    for future in futures:
        future.result()
