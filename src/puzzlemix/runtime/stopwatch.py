"""A stopwatch for named spans of time on the host or on a GPU. Neither of them waits for it."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

PARTS = "data", "saliency", "mixing", "network", "optimizer", "evaluation"  # the parts of an epoch


def now_s(device: torch.device) -> float:
    """Seconds since some fixed moment, read once a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def untimed(name: str) -> AbstractContextManager[None]:
    """A stopwatch that measures nothing."""
    return nullcontext()


def by_part(statistic: Callable[[list[float]], float], records: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """A statistic, such as the mean, of the seconds of each part over all records, which have the same parts."""
    return {part: statistic([record[part] for record in records]) for part in records[0]}


class Stopwatch:
    """Sums the seconds of `with stopwatch("name"):` blocks. An inner block's time is not part of the outer one's.

    A GPU runs behind the host, so CUDA events mark its spans, and only `pop` reads them, after one wait.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self._on_gpu = torch.device(device).type == "cuda"
        self._open: list[str] = []
        self._spans: list[tuple[str, str | None, object, object]] = []  # name, the block around it, start, end
        self._added_s: Mapping[str, float] = {}

    def add(self, seconds: Mapping[str, float]) -> None:
        """Let the next `pop` include these seconds by name: those of a process that stopped within the epoch."""
        self._added_s = seconds

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time that this block takes to the span `name`."""
        around = self._open[-1] if self._open else None
        self._open.append(name)
        start = self._now()
        try:
            yield
        finally:
            self._open.pop()
            self._spans.append((name, around, start, self._now()))

    def pop(self) -> dict[str, float]:
        """The seconds by name since the last call."""
        if self._on_gpu:
            torch.cuda.synchronize()
        seconds = defaultdict(float, self._added_s)
        self._added_s = {}
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
