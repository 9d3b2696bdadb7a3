"""`regenerated.json`: what a regenerated set was made of, and how, beside its images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from puzzlemix.errors import InputError, require
from puzzlemix.files import write_text

NAME = "regenerated.json"


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a regenerated set; None where there is none, as in a released set.

    Raises:
        InputError: it is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text())
        return {**record, "how": str(record["how"]), "classes": list(record["classes"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error!r}): delete {folder} and make the set again") from error


def claim(folder: Path, record: Mapping[str, Any], force: bool) -> None:
    """Make a folder the one of this record, so that a set is of one seed, one table and one code.

    Args:
        folder: for the set; one that is taken up again has the same record.
        record: plain values, as JSON has them.
        force: whether a set of another record gives way; it is deleted.

    Raises:
        InputError: the folder holds another set, or something else.
        RunError: the record cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()):
        before = read_record(folder)
        require(before is not None, f"{folder} holds something else than a regenerated set: move it elsewhere")
        if before == record:
            return
        differs = next(key for key in {**record, **before} if record.get(key) != before.get(key))
        values = f"{differs} was {before.get(differs)}, is {record.get(differs)}"
        require(
            force, f"{folder} was made otherwise ({values}): go on as before, or make all of it again with force=true"
        )
        shutil.rmtree(folder)
    write_text(folder / NAME, json.dumps(record, indent=1) + "\n")
