"""A cluster that wants its machine back sends a signal some time before it takes it; the run saves, and stops."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from types import FrameType
from typing import Any

from puzzlemix import distributed
from puzzlemix.errors import PreemptedError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)  # SIGUSR2 is submitit's


class Preemption:
    """Remembers, inside its `with` block, which of `SIGNALS` have come, so that a loop can end at a good place.

    A `PreemptedError` that leaves the block takes them along.
    """

    def __init__(self) -> None:
        self.received: set[int] = set()
        self._handlers_before: Mapping[int, Any] = {}

    def __enter__(self) -> Preemption:
        self._handlers_before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        if isinstance(error, PreemptedError):
            error.signals = sorted(self.received)

    def asked(self) -> bool:
        """Whether any process of this run has been asked to stop: the same answer on all, so call it on all."""
        if not distributed.any_process(bool(self.received)):
            return False
        self.received.update(*distributed.gather(self.received))
        return True

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received.add(number)


def hand_on(stop: PreemptedError) -> None:
    """Give the signals that stopped a run, once it is saved, to who handled them before: submitit requeues its job."""
    for number in stop.signals:
        handler = signal.getsignal(number)
        if callable(handler):
            handler(number, None)
