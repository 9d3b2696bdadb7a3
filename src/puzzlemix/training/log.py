"""The folder of a run, `<results_dir>/<name>/seed<k>/`, with its config, a line for each epoch, and its results.

    config.yaml              the resolved config
    log.jsonl                a line for each epoch
    metrics.json             the results, written last: a folder that has them is finished
    mixed.png                some training images as the method mixes them, drawn every `logger.mixed_every` epochs
    failed.txt               the error that ended the run; deleted when it goes on
    attacks.json             the totals of finished attacks; deleted when metrics.json has their errors
    checkpoints/last.pt      the state to go on from and to evaluate, and the log so far
    checkpoints/previous.pt  the checkpoint before, in case the last one is damaged

The folder's name depends on the config only, so every process and every restart finds the same folder.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from operator import itemgetter
from pathlib import Path
from statistics import mean, median
from typing import IO, Any

import yaml

from puzzlemix.runtime import distributed
from puzzlemix.runtime.environment import environment
from puzzlemix.runtime.errors import InputError, RunError, error_line, require, require_choice, require_whole
from puzzlemix.runtime.files import cannot_be_written, make_folder, write_text
from puzzlemix.runtime.nested import has_shape, read_nested
from puzzlemix.runtime.stopwatch import by_part
from puzzlemix.training.settings import differences, fingerprint, settings

STATISTICS = ("median10", "last", "best")  # statistics of an error over the epochs: see `summary`
LOCK_WAIT_S = 0.2  # because another process that calls `holder_of` locks the folder for a moment


class RunLog:
    """The writer of one run's folder. Only the first process writes; all read.

    Args:
        config: the resolved config, as plain containers.

    Attributes:
        records: the lines of `log.jsonl`, one for each epoch.

    Raises:
        InputError: a setting cannot work, the folder holds a run of another config, or, with `resume=never`, any run.
            Methods raise `RunError` if a file cannot be written.
    """

    def __init__(self, config: Mapping[str, Any]):
        for key in ("name", "results_dir"):
            require(config[key] not in (None, ""), f"{key} must not be empty")
        name = config["name"]
        stays_inside = ".." not in Path(name).parts and not Path(name).is_absolute()
        require(stays_inside, f"name must not leave results_dir: {name}")
        require_choice("resume", config["resume"], ("auto", "never"))
        require_whole("log_every", config["log_every"], least=1)
        require_choice("logger.wandb", config["logger"]["wandb"], ("disabled", "offline", "online"))
        require_whole("logger.mixed_every", config["logger"]["mixed_every"], least=0)
        self.config = dict(config)
        self.folder = Path(config["results_dir"]) / name / f"seed{config['seed']}"
        self.checkpoint_path = self.folder / "checkpoints" / "last.pt"
        self.previous_checkpoint_path = self.checkpoint_path.with_name("previous.pt")
        self.attacks_path = self.folder / "attacks.json"
        self.records: list[dict[str, Any]] = []
        self._wandb: Any = None
        self._check_folder()

    @property
    def metrics(self) -> dict[str, Any] | None:
        """The results of a finished run; None if it is not finished. Raises `InputError` if they are damaged."""
        path = self.folder / "metrics.json"
        return read_metrics(path) if path.is_file() else None

    def check_config(self, found: Any, path: Path) -> None:
        """Raise `InputError` unless the config found in the file at `path` has this run's settings and seed."""
        remedy = "give another name= or results_dir=, or delete it"
        try:
            theirs = {**settings(found), "seed": found["seed"]}
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged: {remedy}") from error
        differing = differences(theirs, {**settings(self.config), "seed": self.config["seed"]})
        shown = "; ".join(f"{key}: {a} there, {b} here" for key, (a, b) in [*differing.items()][:3])
        require(not differing, f"{self.folder} holds a run of another config ({shown}): {remedy}")

    def take_folder(self) -> None:
        """Make the folder and lock it; raises `InputError` if it cannot be made, or another process trains in it."""
        if distributed.is_main():
            make_folder(self.folder, "results_dir=")
            self._lock = lock_folder(self.folder)

    def start(self) -> None:
        """Write the config and the `records` so far, and start wandb if it is wanted."""
        if not distributed.is_main():
            return
        self._environment = environment()  # read now, since files and commit may change before the last epoch
        (self.folder / "failed.txt").unlink(missing_ok=True)
        write_text(self.folder / "config.yaml", yaml.safe_dump(dict(self.config), sort_keys=False))
        write_text(self.folder / "log.jsonl", "".join(json.dumps(record) + "\n" for record in self.records))
        if self.config["logger"]["wandb"] != "disabled":
            from puzzlemix.training.wandb import WandbRun  # imported here, so that nothing else needs wandb

            self._wandb = WandbRun(self.config, fingerprint(self.config), self.folder)

    @contextmanager
    def recording_failure(self) -> Iterator[None]:
        """Write an error that ends the run to `failed.txt`."""
        try:
            yield
        except Exception as error:
            if distributed.is_main():
                with suppress(RunError):  # the error may be that the disk is full
                    write_text(self.folder / "failed.txt", error_line(error) + "\n")
            raise

    def write_epoch(self, record: dict[str, Any]) -> None:
        """Append an epoch's record to the log."""
        self.records.append(record)
        if not distributed.is_main():
            return
        path = self.folder / "log.jsonl"
        try:
            with open(path, "a") as log:
                log.write(json.dumps(record) + "\n")
        except OSError as error:
            raise cannot_be_written(path, error) from error
        if self._wandb is not None:
            self._wandb.log_epoch(record)

    def log_picture(self, path: Path) -> None:
        """Send a picture of the last epoch to wandb, if that is wanted."""
        if self._wandb is not None:
            self._wandb.log_picture(path, epoch=len(self.records) - 1)

    def finish(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Write and return the metrics: the `summary` of the errors, `results`, the seconds, and the environment."""
        evaluated = [record for record in self.records if "top1_error" in record]
        metrics = {
            "name": self.config["name"],
            "seed": self.config["seed"],
            "epochs": len(self.records),
            **summary(evaluated),
            **results,
            "seconds_per_epoch": by_part(mean, [record["seconds"] for record in self.records]),
            "config_hash": fingerprint(self.config),
            **self._environment,
        }
        write_text(self.folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
        self.attacks_path.unlink(missing_ok=True)
        if self._wandb is not None:
            self._wandb.finish(metrics, self.checkpoint_path)
        return metrics

    def _check_folder(self) -> None:
        path, remedy = self.folder / "config.yaml", f"give another name= or results_dir=, or delete {self.folder}"
        if not path.is_file():
            is_ours = self.metrics is None or self.metrics["config_hash"] == fingerprint(self.config)
            require(is_ours, f"{self.folder} has results of another config, and no config.yaml: {remedy}")
            return
        require(self.config["resume"] == "auto", f"{self.folder} holds a run, and resume=never: {remedy}")
        self.check_config(read_nested(path), path)


def summary(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Top-1 and top-5 error of the `last` epoch, the `median10` of the last ten, as in the paper's tables, and `best`.

    `best` has both errors of the epoch with the least top-1 error, the last such epoch, as in the release's
    imagenet/train.py.
    """
    best = min(reversed(records), key=itemgetter("top1_error"))
    return {
        key: {"median10": median(r[key] for r in records[-10:]), "last": records[-1][key], "best": best[key]}
        for key in ("top1_error", "top5_error")
    }


def read_metrics(path: Path) -> dict[str, Any]:
    """A run's `metrics.json`; raises `InputError` if it is damaged."""
    metrics = read_nested(path)
    is_whole = has_shape(metrics, {"name": str, "seed": int, "config_hash": str})
    require(is_whole, f"{path} is damaged: delete it and start the same run again")
    return metrics


def lock_folder(folder: Path) -> IO[str]:
    """Lock a run's folder for this process, until the returned file is closed or the process ends in any way.

    This is a POSIX lock: forked processes, such as readers of images that outlive this one, do not share it.

    Raises:
        InputError: another process has the folder.
        RunError: the file of the lock cannot be written.
    """
    path, until_s = folder / ".lock", time.monotonic() + LOCK_WAIT_S
    try:
        file = path.open("a+")
        while not _try_lock(file, fcntl.LOCK_EX):
            if time.monotonic() > until_s:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise InputError(f"{folder} is being trained by {holder}: wait for it, or give another name=")
            time.sleep(LOCK_WAIT_S / 10)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
    except OSError as error:
        raise cannot_be_written(path, error) from error
    return file


def holder_of(folder: Path) -> str | None:
    """The process that trains in a folder now, as `process 7 on host`; None if there is none, or it is not visible."""
    try:
        with (folder / ".lock").open() as file:
            return None if _try_lock(file, fcntl.LOCK_SH) else file.read().strip() or "another process"
    except OSError:
        return None  # there is no such file


def _try_lock(file: IO[str], kind: int) -> bool:
    """Lock a file, unless its file system has no locks. Returns False if another process has locked it."""
    try:
        fcntl.lockf(file, kind | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass
    return True
