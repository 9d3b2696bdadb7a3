"""One run a folder at a time."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import IO

from puzzlemix.runtime.errors import InputError
from puzzlemix.runtime.files import cannot_be_written

LOOK_S = 0.2  # how long a run waits for those that only look who has its folder, see `holder_of`


def holder_of(folder: Path) -> str | None:
    """Who trains in a folder now, `process 7 on host`; None where nobody does, or where that cannot be seen."""
    try:
        with (folder / ".lock").open() as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                return file.read().strip() or "another process"
    except OSError:
        pass  # no such file, or a file system without locks
    return None


def lock_run(folder: Path) -> IO[str]:
    """Take a run's folder for this process, until the file returned is closed or the process ends, however it does.

    The lock is POSIX's, which processes forked from this one, such as readers of images that outlive it, do not share.

    Raises:
        InputError: another process has it.
        RunError: it cannot be written.
    """
    path = folder / ".lock"
    try:
        file = path.open("a+")
    except OSError as error:
        raise cannot_be_written(path, error) from error
    until_s = time.monotonic() + LOOK_S
    while not _try_lock(file):
        if time.monotonic() > until_s:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise InputError(f"{folder} is being trained by {holder}: wait for it, or give another name=")
        time.sleep(LOOK_S / 10)
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
    except OSError as error:
        raise cannot_be_written(path, error) from error
    return file


def _try_lock(file: IO[str]) -> bool:
    """Lock a file unless another process has it; on a file system without locks nobody ever has."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass
    return True
