"""The runs below a folder, whatever state they are in, and a line on each that cannot be read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

from puzzlemix.evaluation import results as robustness_file
from puzzlemix.evaluation.corrupted import mean_error
from puzzlemix.reporting.measures import Measure
from puzzlemix.reporting.run_files import has_seconds, read_config, read_log, read_run_metrics
from puzzlemix.runtime.errors import InputError
from puzzlemix.runtime.nested import is_number, read_text
from puzzlemix.runtime.stopwatch import by_part
from puzzlemix.training.log import holder_of
from puzzlemix.training.settings import fingerprint, settings

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

    @property
    def machine(self) -> str:
        """On which it ended, with torch's version."""
        machine = self.metrics["machine"]
        of_processor = (("cores", "cores"), ("threads", "thread(s)"))  # None: not known
        counts = [f"{machine[key]} {what}" for key, what in of_processor if machine[key] is not None]
        where = machine["gpu"] or ", ".join([machine["processor"], *counts])
        return f"{where}, torch {self.metrics['versions']['torch']}"

    @cached_property
    def log(self) -> list[dict[str, Any]]:
        """Its epochs' records, as far as they are whole."""
        return read_log(self.folder / "log.jsonl")

    def logged(self, key: str) -> dict[int, float]:
        """A number of the log by epoch, from 1; most epochs of a recipe may have no errors."""
        numbers = {epoch: record.get(key) for epoch, record in enumerate(self.log, 1)}
        return {epoch: number for epoch, number in numbers.items() if is_number(number)}

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Of a finished run's epochs, by part and in `total`, the median, which does not see an epoch that stood still.

        Where the log is damaged, the mean that its metrics have.
        """
        epochs = [record["seconds"] for record in self.log if has_seconds(record)]
        return by_part(median, epochs) if epochs else self.metrics["seconds_per_epoch"]

    @cached_property
    def robustness(self) -> dict[str, Any]:
        """What `evaluate.py` found of its last network; empty where it did not, or of another network."""
        results = robustness_file.read_evaluation(self.folder / robustness_file.NAME)
        return results if robustness_file.is_of_run(results, self.metrics) else {}

    @cached_property
    def under_attack(self) -> list[tuple[Mapping[str, Any], float]]:
        """Settings of each attack on its last network, and the error in percent; those of training come first."""
        found: list[tuple[Mapping[str, Any], float]] = []
        for result in (self.metrics, self.robustness):
            for name, attack in result.get("attacks", {}).items():
                if all(attack != other for other, _ in found):
                    found.append((attack, result[f"{name}_error"]))
        return found

    def error(self, measure: Measure, statistic: str = "last") -> float | None:
        """In percent; under attack and on corrupted images that of the last epoch. None where it was not measured."""
        if measure.corruptions:
            return mean_error(self.robustness.get("corruptions", {}).get("errors", {}), measure.corruptions)
        if measure.attack is None:
            return self.metrics[measure.key][statistic] if measure.key in self.metrics else None
        return next((error for attack, error in self.under_attack if attack == measure.attack), None)


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

    @property
    def seconds(self) -> dict[str, float]:
        """Of an epoch, by part and in `total`, mean over the finished runs; empty where there is none."""
        of_runs = [run.seconds for run in self.finished]
        return by_part(mean, of_runs) if of_runs else {}

    def errors(self, measure: Measure, statistic: str = "last") -> list[float]:
        """Of each finished run that has it, in percent."""
        found = [run.error(measure, statistic) for run in self.finished]
        return [error for error in found if error is not None]


def by_name(rows: Mapping[str, Row]) -> dict[str, Run]:
    """The runs of rows, called after the row's label and the seed."""
    return {f"{label} seed {run.seed}": run for label, row in rows.items() for run in row.runs}


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
            continue
        problems += _problem_of_evaluation(runs[-1])
    for path in sorted(results_dir.rglob("seed*/metrics.json")):
        if not path.with_name("config.yaml").exists():
            problems.append(f"{path} has no config.yaml beside it: not shown")
    return _without_repetitions(runs, problems)


def _problem_of_evaluation(run: Run) -> list[str]:
    """A line on a run's evaluation, where there is one and it cannot be shown."""
    path = run.folder / robustness_file.NAME
    if not path.is_file() or run.robustness:
        return []
    if not robustness_file.read_evaluation(path):
        return [f"{path} is damaged: it is not shown; evaluate.py writes it again"]
    of = "another network than the run's last" if run.metrics else "a run that is not finished"
    return [f"{path} is of {of}: it is not shown"]


def read_run(folder: Path) -> Run:
    """One run's folder.

    Raises:
        InputError: its config or its results cannot be used, see `read_config` and `read_run_metrics`.
    """
    config = read_config(folder / "config.yaml")
    if not (folder / "metrics.json").is_file():
        return Run(folder, config, *_state(folder, config), {})
    return Run(folder, config, "finished", "", read_run_metrics(folder / "metrics.json", config))


def rows_of(runs: Iterable[Run]) -> list[Row]:
    """Runs as rows of a table, in the order of their labels."""
    groups, configs = defaultdict(list), defaultdict(set)
    for run in sorted(runs, key=lambda run: (run.table, run.name, run.seed)):
        groups[run.table, run.name, run.config_hash].append(run)
        configs[run.table, run.name].add(run.config_hash)
    return [
        Row(name if len(configs[table, name]) == 1 else f"{name} [{config_hash[:8]}]", members)
        for (table, name, config_hash), members in groups.items()
    ]


def _state(folder: Path, config: Mapping[str, Any]) -> tuple[str, str]:
    """Status and state of a run that has no results."""
    if holder := holder_of(folder):
        return "running", holder
    failure = folder / "failed.txt"
    if failure.is_file():
        text = read_text(failure)
        return "failed", f"{failure.name} is damaged" if text is None else " ".join(text.split())
    done = len(read_log(folder / "log.jsonl"))
    return "unfinished", f"{done} of {config['recipe']['epochs']} epochs"


def _without_repetitions(runs: list[Run], problems: list[str]) -> Found:
    """Leave out a run whose config, name and seed another has too, elsewhere: they are not two samples."""
    kept: dict[tuple[str, str, int], Run] = {}
    for run in sorted(runs, key=lambda run: run.status != "finished"):
        other = kept.setdefault((run.name, run.config_hash, run.seed), run)
        if other is not run:
            problems.append(f"{run.folder} repeats seed {run.seed} of {other.folder}: not counted")
    folders = {run.folder for run in kept.values()}
    return Found([run for run in runs if run.folder in folders], problems)
