"""Signals that ask a program to stop. A cluster sends one some time before it takes its machine back.

Inside `answered` a signal raises `PreemptedError` at once, wherever the program is. Inside `deferred`, and in a run of
several processes, which have to stop together, the error waits for the next `stop_if_asked`.
"""

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from puzzlemix.runtime import distributed
from puzzlemix.runtime.errors import PreemptedError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)  # submitit sends SIGUSR2

_received: set[int] = set()
_is_deferring = False


@contextmanager
def answered() -> Iterator[None]:
    """Answer `SIGNALS`. Those that came while the script had them blocked, during its imports, are answered now."""
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
    """Let the code inside run to its end, or until it calls `stop_if_asked`."""
    global _is_deferring
    _is_deferring = True
    try:
        yield
    finally:
        _is_deferring = False


def stop_if_asked() -> None:
    """Raise `PreemptedError` if any process of the run was asked to stop. All processes must call this together."""
    if distributed.any_process(bool(_received)):
        _received.update(*distributed.gather(_received))
        raise PreemptedError


def hand_on() -> None:
    """Call the handlers that `answered` replaced, with the signals that came: submitit's queues its job again."""
    for number in sorted(_received):
        handler = signal.getsignal(number)
        if callable(handler):
            handler(number, None)
    _received.clear()


def _answer(number: int, frame: FrameType | None) -> None:
    if multiprocessing.parent_process() is not None:
        return  # this process reads images and has inherited the handler
    _received.add(number)
    if not (_is_deferring or distributed.world_size() > 1):
        raise PreemptedError
