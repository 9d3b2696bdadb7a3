"""Compiled loops over the images of a batch, on all cores that PyTorch may use, without processes.

Threads of our own rather than numba's: they are as many as `torch.get_num_threads()` (so torchrun's and OMP_NUM_THREADS
count), may be used from several threads at once, and a fork may follow.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import torch

PARTS_A_CORE = 4  # images differ in how long they take
STEPS_WORTH_THREADS = 1_000_000  # half a millisecond; to wake a thread takes a tenth of one

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}  # by process, as a fork has no threads, and number of threads


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
