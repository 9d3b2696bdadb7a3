"""Files of results: each is complete or does not exist, and a script learns at its start whether it can write them."""

import errno
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from puzzlemix.runtime.errors import InputError, RunError, require, require_choice


def output_file(given: str | None, default: Path | None, endings: Collection[str] = (), key: str = "output") -> Path:
    """Check that a script can write its file, before it works on the content. Makes the folder, returns the path.

    Args:
        given: the user's path, if any.
        default: the path if the user gives none.
        endings: those that the file may have; any if empty.
        key: the name of the setting, for messages.

    Raises:
        InputError: the file cannot be written, or has another ending.
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
        probe.unlink(missing_ok=True)  # another process of the run may have deleted it
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): give another {key}=") from error
    return path


def next_to(checkpoint: str | Path, name: str) -> Path:
    """The file next to a checkpoint that is made from it: `last_<name>` for `last.pt`."""
    return Path(checkpoint).with_name(f"{Path(checkpoint).stem}_{name}")


def make_folder(folder: Path, key: str) -> None:
    """Make a folder unless it exists. Raises `InputError`, with the setting `key` to change, if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made ({error.strerror}): give another {key}") from error


def write_text(path: Path, text: str) -> None:
    """Write a file whole. If it cannot be written, this raises `RunError`, and the old file does not change."""
    with whole_file(path) as file:
        file.write(text.encode())


@contextmanager
def whole_file(path: Path, previous: Path | None = None) -> Iterator[IO[bytes]]:
    """Open a file that becomes `path` when it is complete and on the disk. Its folder is made.

    The old file becomes `previous`, if that is given. If an error is raised inside, no file changes.

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
                unfinished.unlink(missing_ok=True)  # otherwise it might fill the disk
            raise
        if previous is not None and path.is_file():
            os.replace(path, previous)
        os.replace(unfinished, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise cannot_be_written(path, error) from error


def unfinished_of(path: Path) -> Path:
    """The file that is written and then becomes `path`: `last.pt.unfinished` for `last.pt`."""
    return path.with_name(f"{path.name}.unfinished")


def cannot_be_written(path: Path, error: OSError) -> RunError:
    """The error to raise if the system refuses to write a file. It says whether an old file is unchanged."""
    kept = "; the old file is unchanged" if path.is_file() else ""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "free some space, start again" if is_full else "allow writing to it, or write elsewhere"
    return RunError(f"{path} cannot be written ({error.strerror or error}){kept}: {remedy}")


def _sync_folder(folder: Path) -> None:
    """Make the new names of files survive a loss of power, on file systems that support it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
