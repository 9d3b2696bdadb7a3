"""A soak test: a run of digits that is killed at random moments and started again must equal one that ran undisturbed.

    python -m benchmarks.soak                          # 20 kills of one process, some minutes
    python -m benchmarks.soak --processes=2 --kills=10
    python -m benchmarks.soak --epochs=200 mixup=puzzlemix_adversarial mixup.adv_p=0.5

Further arguments are overrides of scripts/train.py. The status is 1 if the two differ in a single bit.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from puzzlemix.cli.script import plain_script
from puzzlemix.runtime.checkpoint import load_checkpoint
from puzzlemix.runtime.errors import RunError, require
from puzzlemix.runtime.files import unfinished_of
from puzzlemix.runtime.nested import flatten

TRAIN = Path(__file__).parents[1] / "scripts" / "train.py"
LOOK_S = 0.0005  # between two checks whether a checkpoint is being written, which takes some milliseconds
LATEST_S = 1.0  # longest time from the beginning of the program, its training or an epoch to a kill
EPOCHS = 2  # most epochs that a training completes before the next kill


def kill_and_restart(command: Sequence[str], folder: Path, kills: int, seed: int) -> None:
    """Run `command` again and again until it ends well; in the first runs, kill all its processes with SIGKILL.

    The kills alternate between a random moment of the training, the write of a checkpoint, and the start of the
    program. The first kind comes after up to `EPOCHS` more epochs, the second after at least one, however long they
    take.

    Args:
        command: trains the run in `folder`.
        kills: number of runs that are killed.
        seed: fixes the moments.

    Raises:
        RunError: the run ended before it was killed `kills` times, or it failed.
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
        print(f"kill {kill + 1} {where}, {_epochs_saved(folder)} epochs saved", flush=True)
    status = subprocess.run(command, check=False).returncode
    if status != 0:
        raise RunError(f"the run ended with status {status}")


def differences(folder: Path, reference: Path) -> list[str]:
    """What differs between two finished runs: networks, optimisers, logs (without times) and errors."""
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
    """The processes that a process has started, and all that those have started."""
    try:
        children = [int(c) for file in Path(f"/proc/{pid}/task").glob("*/children") for c in file.read_text().split()]
    except FileNotFoundError:  # it has just ended
        return []
    return [*children, *(grandchild for child in children for grandchild in descendants(child))]


def _wait_for_write(path: Path, since_ns: int, process: subprocess.Popen) -> None:
    """Wait until a file is written after a moment, or the process has ended."""
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


@plain_script
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="fixes the moments of the kills")
    options, overrides = parser.parse_known_args()
    require(options.kills >= 1 and options.processes >= 1, "--kills and --processes must be at least 1")
    with tempfile.TemporaryDirectory() as folder:
        soak(Path(folder), options, overrides)


def soak(results: Path, options: argparse.Namespace, overrides: list[str]) -> None:
    """Train two runs, kill one of them again and again, and raise `RunError` if they differ."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={options.processes}"]
    run = [sys.executable, *(launcher if options.processes > 1 else ()), str(TRAIN), f"results_dir={results}"]
    run += ["mixup=puzzlemix", "device=cpu", "attack=fgsm", f"recipe.epochs={options.epochs}", *overrides]
    killed, reference = (results / name / "seed0" for name in ("killed", "reference"))
    kill_and_restart([*run, "name=killed"], killed, options.kills, options.seed)
    kill_and_restart([*run, "name=reference"], reference, 0, options.seed)
    found = differences(killed, reference)
    if found:
        raise RunError(f"{len(found)} differences after {options.kills} kills: {', '.join(found[:5])}")
    print(f"no difference after {options.kills} kills: weights, optimiser, log and errors are the same to the last bit")


if __name__ == "__main__":
    main()
