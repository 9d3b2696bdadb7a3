"""Kill a run again and again, and see whether it ends as one that was never killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from puzzlemix.checkpoint import load_checkpoint
from puzzlemix.errors import RunError
from puzzlemix.files import unfinished_of
from puzzlemix.nested import flatten

LOOK_S = 0.0005  # between two looks at whether a checkpoint is being written, which takes some milliseconds
LATEST_S = 1.0  # kills come up to this long after the program, its training, or an epoch has begun
EPOCHS = 2  # kills in training come after so many more epochs, at most


def kill_and_restart(command: Sequence[str], folder: Path, kills: int, seed: int, tell: Callable[[str], None]) -> None:
    """Run `command` until it ends well, killing all its processes by SIGKILL so many times on the way.

    In turn: at a random moment of the training, during the write of a checkpoint, and while the program starts. The
    first comes after up to `EPOCHS` further epochs, the second after one at least, however long they take.

    Args:
        command: trains the run in `folder`.
        folder: the run's.
        kills: how many.
        seed: of the moments.
        tell: takes a line for each kill.

    Raises:
        RunError: the run ended before it was killed that often, or ended badly.
    """
    rng = random.Random(seed)
    for kill in range(kills):
        where = ("in training", "in a write", "at the start")[kill % 3]
        process, started_ns = subprocess.Popen(command), time.time_ns()
        if where != "at the start":
            _wait_for_write(folder / "log.jsonl", started_ns, process)
            for _ in range(rng.randint(where == "in a write", EPOCHS)):
                _wait_for_write(folder / "checkpoints" / "last.pt", time.time_ns(), process)
        time.sleep(rng.uniform(0, LATEST_S))
        if where == "in a write":
            _wait_for_write(unfinished_of(folder / "checkpoints" / "last.pt"), time.time_ns(), process)
        if process.poll() is not None:
            raise RunError(f"the run ended with status {process.returncode} before kill {kill + 1}: give more epochs")
        for pid in [process.pid, *descendants(process.pid)]:
            os.kill(pid, signal.SIGKILL)
        process.wait()
        tell(f"kill {kill + 1} {where}, {_epochs_saved(folder)} epochs saved")
    status = subprocess.run(command, check=False).returncode
    if status != 0:
        raise RunError(f"the run ended with status {status}")


def differences(folder: Path, reference: Path) -> list[str]:
    """In what two finished runs differ beside times: their networks, optimisers, logs, and errors; best: in nothing."""
    found = []
    contents = [load_checkpoint(run / "checkpoints" / "last.pt") for run in (folder, reference)]
    for part in ("network", "optimizer"):
        ours, theirs = (flatten(content[part]) for content in contents)
        found += [f"{part}: {key}" for key in sorted({*ours, *theirs}) if not _same(ours.get(key), theirs.get(key))]
    ours, theirs = (_log_without_times(run) for run in (folder, reference))
    if len(ours) != len(theirs):
        found.append(f"log: {len(ours)} lines, not {len(theirs)}")
    found += [f"log: line {i}" for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]]
    ours, theirs = (json.loads((run / "metrics.json").read_text()) for run in (folder, reference))
    errors = [key for key in ours if key.endswith("_error")]
    found += [f"metrics: {key}" for key in ("epochs", *errors) if ours[key] != theirs.get(key)]
    return found


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and they."""
    try:
        children = [int(c) for file in Path(f"/proc/{pid}/task").glob("*/children") for c in file.read_text().split()]
    except FileNotFoundError:  # it has just ended
        return []
    return [*children, *(grandchild for child in children for grandchild in descendants(child))]


def _wait_for_write(path: Path, since_ns: int, process: subprocess.Popen) -> None:
    """Go on once a file is written anew, or the process has ended: one that an earlier kill left does not count."""
    while process.poll() is None:
        with suppress(FileNotFoundError):
            if path.stat().st_mtime_ns > since_ns:
                return
        time.sleep(LOOK_S)


def _epochs_saved(folder: Path) -> int:
    path = folder / "checkpoints" / "last.pt"
    return load_checkpoint(path)["epoch"] if path.is_file() else 0


def _log_without_times(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
        return torch.equal(ours, theirs)
    return ours == theirs
