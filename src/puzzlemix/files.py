"""Files that results go to: whole or not there, and asked about before work is spent on them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from puzzlemix.errors import InputError, RunError


def output_file(given: str | None, default: Path) -> Path:
    """Where a script's output goes, its folder made.

    Raises:
        InputError: the folder cannot be made.
    """
    path = default if given is None else Path(given).expanduser()
    make_folder(path.parent, "output=")
    return path


def make_folder(folder: Path, key: str) -> None:
    """Make a folder unless it is there; `key` is what to change where it cannot be made.

    Raises:
        InputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made ({error.strerror}): give another {key}") from error


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is never half there, not after a loss of power either.

    Raises:
        RunError: it cannot be written; the file that was there is as it was.
    """
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        with open(unfinished, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_be_written(path, error) from error


def sync_folder(folder: Path) -> None:
    """Make renamed files of a folder outlast a loss of power, where the file system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def cannot_be_written(path: Path, error: OSError) -> RunError:
    """What to say of a file that the system does not take."""
    return RunError(f"{path} cannot be written ({error.strerror}): make room, start again")
