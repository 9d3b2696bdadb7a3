"""Files that results go to: whole or not there, and asked about before work is spent on them."""

from __future__ import annotations

import os
from pathlib import Path

from puzzlemix.errors import InputError


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
    """Write a file so that it is never half there."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text)
    os.replace(unfinished, path)
