"""The runs below a folder, whatever state they are in, and a line on each that cannot be read."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from puzzlemix.errors import InputError, require
from puzzlemix.nested import flatten
from puzzlemix.run_lock import holder_of
from puzzlemix.runlog import fingerprint, read_metrics, settings

YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it
STATUSES = ("finished", "running", "unfinished", "failed")


@dataclass(frozen=True)
class Run:
    """One run's folder, as it was read.

    Attributes:
        folder: `<results_dir>/<name>/seed<k>`.
        config: the resolved config.
        status: of `STATUSES`.
        state: what there is to say of a run that is not finished: its error, its process, how far it came.
        metrics: of a finished run, else empty.
    """

    folder: Path
    config: Mapping[str, Any]
    status: str
    state: str
    metrics: Mapping[str, Any]

    @property
    def name(self) -> str:
        """As its config has it."""
        return str(self.config["name"])

    @property
    def seed(self) -> int:
        """As its config has it."""
        return self.config["seed"]

    @property
    def table(self) -> str:
        """The table that it stands in, `<dataset>_<network>` unless it was given."""
        return str(self.config["table"])

    @property
    def choices(self) -> Mapping[str, str]:
        """The options of `network` and `mixup`."""
        return self.config["choices"]

    @property
    def method(self) -> str:
        """The option of `mixup`."""
        return self.choices["mixup"]

    @cached_property
    def config_hash(self) -> str:
        """Equal for runs that are repetitions of each other."""
        return fingerprint(self.config)

    @property
    def commit(self) -> str:
        """Of the code that finished it, in 7 digits, `-dirty` where files differed; empty where that is not known."""
        return short_commit(self.metrics.get("git_commit"))

    def read_log(self) -> list[dict[str, Any]]:
        """Its epochs' records, as far as they are whole: a run that is at work may be writing one."""
        records = []
        try:
            lines = (self.folder / "log.jsonl").read_text().splitlines()
        except OSError:
            return []
        for line in lines:
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return records

    def read_attacks(self) -> list[tuple[Mapping[str, Any], float]]:
        """The attacks on its last network, each with the error in percent: by training, then by `evaluate.py`."""
        found: dict[str, tuple[Mapping[str, Any], float]] = {}
        evaluation = self.folder / "checkpoints" / "last_evaluation.json"
        sources = [self.metrics]
        with suppress(OSError, json.JSONDecodeError):
            sources.append(json.loads(evaluation.read_text()))
        for source in sources:
            for name, options in source.get("attacks", {}).items():
                found[name] = options, source[f"{name}_error"]
        return list(found.values())


class Found(NamedTuple):
    """What lies below a folder: its runs, in the order of their folders, and a line on each that cannot be used."""

    runs: list[Run]
    problems: list[str]


class Row(NamedTuple):
    """Runs that differ in nothing but the seed, in the order of their seeds.

    Attributes:
        label: their name, and where runs of one name have several configs, the beginning of the config's hash.
        runs: all of them.
    """

    label: str
    runs: list[Run]

    @property
    def finished(self) -> list[Run]:
        """Those that have results."""
        return [run for run in self.runs if run.status == "finished"]

    @property
    def settings(self) -> dict[str, Any]:
        """What their results depend on, flat."""
        return settings(self.runs[0].config)

    def values(self, metric: str, statistic: str = "last") -> list[float]:
        """A metric of each finished run that has it, in percent; errors under attack have no statistic but `last`."""
        found = [run.metrics[metric] for run in self.finished if metric in run.metrics]
        return [value[statistic] if isinstance(value, Mapping) else value for value in found]


def short_commit(commit: str | None) -> str:
    """`0d05fe8` or `0d05fe8-dirty`; empty of None."""
    return (commit or "")[:7] + ("-dirty" if (commit or "").endswith("-dirty") else "")


def find_runs(results_dir: Path) -> Found:
    """Read every run below a folder."""
    runs, problems = [], []
    if not results_dir.is_dir():
        problems.append(f"{results_dir} is not there: give results_dir=, the folder of your runs, or train one")
    for folder in sorted(path.parent for path in results_dir.rglob("seed*/config.yaml")):
        try:
            runs.append(read_run(folder))
        except InputError as error:
            problems.append(str(error))
    for path in sorted(results_dir.rglob("seed*/metrics.json")):
        if not path.with_name("config.yaml").is_file():
            problems.append(f"{path} has no config.yaml beside it: not shown")
    return _without_repetitions(runs, problems)


def read_run(folder: Path) -> Run:
    """One run's folder.

    Raises:
        InputError: its config or its results are damaged, not numbers, or of a version that did not write what is
            needed here.
    """
    config = _read_config(folder / "config.yaml")
    if not (folder / "metrics.json").is_file():
        return Run(folder, config, *_state(folder, config), {})
    metrics = read_metrics(folder / "metrics.json")
    numbers = {key: value for key, value in flatten(metrics).items() if "_error" in key}
    require(bool(numbers), f"{folder / 'metrics.json'} holds no errors: delete it and start the same run again")
    wrong = next((key for key, value in numbers.items() if not _is_percentage(value)), None)
    require(wrong is None, f"{folder / 'metrics.json'}: {wrong} is {numbers.get(wrong)}, no percentage: not shown")
    return Run(folder, config, "finished", "", metrics)


def rows_of(runs: Iterable[Run]) -> list[Row]:
    """Runs as rows of a table, in the order of their labels."""
    runs = sorted(runs, key=lambda run: (run.name, run.seed))
    groups, configs = defaultdict(list), defaultdict(set)
    for run in runs:
        groups[run.name, run.config_hash].append(run)
        configs[run.name].add(run.config_hash)
    return [
        Row(name if len(configs[name]) == 1 else f"{name} [{config_hash[:8]}]", members)
        for (name, config_hash), members in groups.items()
    ]


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.load(path.read_text(), YAML_LOADER)
        settings(config)
        known = {"name", "seed"} <= set(config)
    except (yaml.YAMLError, OSError, UnicodeDecodeError, AttributeError, KeyError, TypeError):
        known = False
    require(known, f"{path} is damaged: its run is not shown")
    of_today = {"table", "choices"} <= set(config)
    require(of_today, f"{path} is of an older version of this code, which named no table: its run is not shown")
    return config


def _state(folder: Path, config: Mapping[str, Any]) -> tuple[str, str]:
    """Status and state of a run that has no results."""
    if holder := holder_of(folder):
        return "running", holder
    failure = folder / "failed.txt"
    if failure.is_file():
        return "failed", failure.read_text().strip()
    log = folder / "log.jsonl"
    done = len(log.read_text().splitlines()) if log.is_file() else 0
    return "unfinished", f"{done} of {config['recipe']['epochs']} epochs"


def _is_percentage(value: Any) -> bool:
    return isinstance(value, int | float) and isfinite(value) and 0 <= value <= 100


def _without_repetitions(runs: list[Run], problems: list[str]) -> Found:
    """Leave out a run whose config, name and seed another has too, elsewhere: they are not two samples."""
    first: dict[tuple[str, str, int], Run] = {}
    for run in runs:
        what = run.name, run.config_hash, run.seed
        other = first.setdefault(what, run)
        if other.status != "finished" and run.status == "finished":
            other, first[what] = run, run
        if first[what] is not run:
            problems.append(f"{run.folder} repeats seed {run.seed} of {other.folder}: not counted")
    kept = {run.folder for run in first.values()}
    return Found([run for run in runs if run.folder in kept], problems)
