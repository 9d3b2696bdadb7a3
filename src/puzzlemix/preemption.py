"""A cluster that wants its machine back sends a signal some time before it takes it; the run saves, and stops."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from types import FrameType
from typing import Any

from puzzlemix import distributed

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preemption:
    """Remembers, inside its `with` block, that one of `SIGNALS` has come, so that a loop can end at a good place."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._handlers_before: Mapping[int, Any] = {}

    def __enter__(self) -> Preemption:
        self._handlers_before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)

    def asked(self) -> bool:
        """Whether any process of this run has been asked to stop: the same answer on all, so call it on all."""
        return distributed.any_process(self.received is not None)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
