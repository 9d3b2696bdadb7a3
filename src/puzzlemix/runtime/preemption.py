"""Signals that ask a program to stop. A cluster sends one some time before it takes its machine back.

Inside `answered` a signal raises `PreemptedError` at once, wherever the program is. Inside `deferred`, and where
several processes have to stop together, it waits for the next `stop_if_asked`.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from puzzlemix.runtime import distributed
from puzzlemix.runtime.errors import PreemptedError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)  # SIGUSR2 is submitit's

_received: set[int] = set()
_deferring = False


@contextmanager
def answered() -> Iterator[None]:
    """Answer `SIGNALS`, also those that arrived while the script had them blocked, during its imports."""
    _received.clear()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    handlers = {number: signal.signal(number, _answer) for number in SIGNALS}
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """Let what happens inside finish, or stop where it calls `stop_if_asked`."""
    global _deferring
    _deferring = True
    try:
        yield
    finally:
        _deferring = False


def stop_if_asked() -> None:
    """Raise `PreemptedError` on all processes of a run if any of them was asked to stop: call it on all."""
    if distributed.any_process(bool(_received)):
        _received.update(*distributed.gather(_received))
        raise PreemptedError


def hand_on() -> None:
    """Give the signals to the handlers that were there before `answered`: submitit's queues its job again."""
    for number in sorted(_received):
        handler = signal.getsignal(number)
        if callable(handler):
            handler(number, None)
    _received.clear()


def _answer(number: int, frame: FrameType | None) -> None:
    if multiprocessing.parent_process() is not None:
        return  # a reader of images, which inherited this handler
    _received.add(number)
    if not (_deferring or distributed.world_size() > 1):
        raise PreemptedError
