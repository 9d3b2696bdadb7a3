"""Where the seconds go: named spans, on the host or on a GPU, without making either wait."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Sums the seconds of `with stopwatch("name"):` blocks.

    On a GPU the kernels run behind the host, so spans are taken by CUDA events and read only in `pop`, which waits once.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self._on_gpu = torch.device(device).type == "cuda"
        self._seconds: dict[str, float] = defaultdict(float)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time this block takes to the span `name`."""
        if self._on_gpu:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            yield
            end.record()
            self._events.append((name, start, end))
        else:
            start_s = time.perf_counter()
            yield
            self._seconds[name] += time.perf_counter() - start_s

    def pop(self) -> dict[str, float]:
        """Seconds by name since the last call."""
        if self._events:
            torch.cuda.synchronize()
        for name, start, end in self._events:
            self._seconds[name] += start.elapsed_time(end) / 1000  # milliseconds
        seconds = dict(self._seconds)
        self._seconds.clear()
        self._events.clear()
        return seconds
