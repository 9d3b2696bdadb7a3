"""Files that results go to: whole or not there, and asked about before work is spent on them."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from puzzlemix.errors import InputError, RunError, require, require_choice


def output_file(given: str | None, default: Path | None, endings: Collection[str] = (), key: str = "output") -> Path:
    """Where a script's output goes, its folder made, before work is spent on it.

    Args:
        given: what the user wants.
        default: in place of None.
        endings: of which the file's has to be one, if any are given.
        key: what to change where it cannot be.

    Raises:
        InputError: it cannot be written, or its ending is another.
    """
    path = default if given is None else Path(str(given)).expanduser()
    require(path is not None, f"{key} must name a file")
    if endings:
        require_choice(f"ending of {key}", path.suffix.lower(), endings)
    require(not path.is_dir(), f"{path} is a folder: give {key}= a file")
    make_folder(path.parent, f"{key}=")
    probe = unfinished_of(path)
    try:
        probe.touch()
        probe.unlink(missing_ok=True)  # all processes of a run look
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): give another {key}=") from error
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
    """Write a file so that it is never half there.

    Raises:
        RunError: it cannot be written; the file that was there is as it was.
    """
    with whole_file(path) as file:
        file.write(text.encode())


@contextmanager
def whole_file(path: Path, previous: Path | None = None) -> Iterator[IO[bytes]]:
    """A file to write, which becomes `path`, in a folder made for it, when it is complete: also after a loss of power.

    The file that was there becomes `previous`, where one is wanted. What fails inside leaves all files as they were.

    Raises:
        RunError: it cannot be written.
    """
    unfinished = unfinished_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(unfinished, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)  # the room that it takes may be all there is
            raise
        if previous is not None and path.is_file():
            os.replace(path, previous)
        os.replace(unfinished, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise cannot_be_written(path, error) from error


def unfinished_of(path: Path) -> Path:
    """Where a file is written before it becomes `path`: `last.pt` -> `last.pt.unfinished`."""
    return path.with_name(f"{path.name}.unfinished")


def cannot_be_written(path: Path, error: OSError) -> RunError:
    """What to say of a file that the system does not take, and of one that was there."""
    kept = "; it is as it was" if path.is_file() else ""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "make room, start again" if full else "let it be written to, or write elsewhere"
    return RunError(f"{path} cannot be written ({error.strerror or error}){kept}: {remedy}")


def _sync_folder(folder: Path) -> None:
    """Make renamed files of a folder outlast a loss of power, where the file system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def beside(checkpoint: str | Path, name: str) -> Path:
    """Where what is made of a checkpoint goes: `last.pt` -> `last_<name>`, in the same folder."""
    return Path(checkpoint).with_name(f"{Path(checkpoint).stem}_{name}")
