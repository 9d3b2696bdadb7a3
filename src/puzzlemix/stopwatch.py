"""Where the seconds go: named spans, on the host or on a GPU, without making either wait."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

PARTS = "data", "saliency", "mixing", "network", "optimizer", "evaluation"  # of an epoch's time


def untimed(name: str) -> AbstractContextManager[None]:
    """In place of a stopwatch where nobody reads it."""
    return nullcontext()


def of_parts(statistic: Callable[[list[float]], float], records: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean or median of each part over all records, which have the same parts."""
    return {part: statistic([record[part] for record in records]) for part in records[0]}


class Stopwatch:
    """Sums the seconds of `with stopwatch("name"):` blocks; a block inside another counts for the inner one alone.

    On a GPU kernels run behind the host, so spans are taken by CUDA events and read only in `pop`, which waits once.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self._on_gpu = torch.device(device).type == "cuda"
        self._open: list[str] = []
        self._spans: list[tuple[str, str | None, object, object]] = []  # name, the block around it, start, end
        self._before_s: Mapping[str, float] = {}

    def go_on_from(self, seconds: Mapping[str, float]) -> None:
        """Count these seconds by name too: what `pop` gave to a process that stopped half-way."""
        self._before_s = seconds

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time this block takes to the span `name`."""
        around = self._open[-1] if self._open else None
        self._open.append(name)
        start = self._now()
        try:
            yield
        finally:
            self._open.pop()
            self._spans.append((name, around, start, self._now()))

    def pop(self) -> dict[str, float]:
        """Seconds by name since the last call."""
        if self._on_gpu:
            torch.cuda.synchronize()
        seconds = defaultdict(float, self._before_s)
        self._before_s = {}
        for name, around, start, end in self._spans:
            elapsed_s = start.elapsed_time(end) / 1000 if self._on_gpu else end - start
            seconds[name] += elapsed_s
            if around is not None:
                seconds[around] -= elapsed_s
        self._spans.clear()
        return dict(seconds)

    def _now(self) -> object:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
