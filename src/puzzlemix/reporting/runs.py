"""The runs in a folder, in any state, and a line on each that cannot be used.

Other people may have written or damaged the files, and a run that is training may have written half of one.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from statistics import mean, median
from types import NoneType
from typing import Any, NamedTuple

from puzzlemix.evaluation import results as robustness_file
from puzzlemix.evaluation.corrupted import mean_error
from puzzlemix.reporting.measures import TOP1, TOP5, Measure
from puzzlemix.runtime.errors import InputError, require
from puzzlemix.runtime.nested import flatten, has_shape, is_number, is_percentage, parse_nested, read_nested, read_text
from puzzlemix.runtime.stopwatch import PARTS, by_part
from puzzlemix.training.log import STATISTICS, holder_of, read_metrics, summary
from puzzlemix.training.settings import fingerprint, settings

STATUSES = ("finished", "running", "unfinished", "failed")

# The shape of the parts of each file that are used.
CONFIG = {
    "name": str,
    "seed": int,
    "table": (str, int),
    "choices": {"network": str, "mixup": str},
    "dataset": {"name": (str, int)},
    "network": dict,
    "mixup": dict,
    "recipe": {"epochs": int},
    "precision": str,
}
SECONDS = dict.fromkeys((*PARTS, "total"), is_number)
ERRORS = dict.fromkeys((TOP1.key, TOP5.key), is_percentage)  # of an evaluated epoch in the log
METRICS = {
    **dict.fromkeys((TOP1.key, TOP5.key), dict.fromkeys(STATISTICS, is_percentage)),
    "weights": (str, NoneType),  # None: not recorded; likewise the commit, the cores and the threads
    "evaluated_on": str,
    "seconds_per_epoch": SECONDS,
    "versions": {"torch": str},
    "git_commit": (str, NoneType),
    "machine": {"processor": str, "gpu": (str, NoneType), "processes": int}
    | dict.fromkeys(("cores", "threads"), (int, NoneType)),
}


@dataclass(frozen=True)
class Run:
    """One run."""

    folder: Path  # <results_dir>/<name>/seed<k>
    config: Mapping[str, Any]  # resolved
    status: str  # one of `STATUSES`
    state: str  # the error of a failed run, the process that trains it, or the epochs of an unfinished one
    metrics: Mapping[str, Any]  # empty unless it is finished

    @property
    def name(self) -> str:
        return self.config["name"]

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def table(self) -> str:
        """The name of its table, `<dataset>_<network>` unless one was given."""
        return str(self.config["table"])

    @property
    def method(self) -> str:
        return self.config["choices"]["mixup"]

    @cached_property
    def config_hash(self) -> str:
        """Equal for runs that are repetitions of each other."""
        return fingerprint(self.config)

    @property
    def commit(self) -> str:
        return short_commit(self.metrics.get("git_commit"))

    @property
    def machine(self) -> str:
        """What a finished run was trained on, in words, with the processes, which batch norm depends on."""
        machine, torch = self.metrics["machine"], self.metrics["versions"]["torch"]
        cores, threads = (machine[key] or "unknown" for key in ("cores", "threads"))
        where = machine["gpu"] or f"{machine['processor']}, cores {cores}, threads {threads}"
        return f"{where}, processes {machine['processes']}, torch {torch}"

    @cached_property
    def log(self) -> list[dict[str, Any]]:
        """The records of its epochs, up to the first damaged one."""
        return _read_log(self.folder)

    def logged(self, key: str) -> dict[int, float]:
        """A number of the log by epoch, from 1, without the epochs that lack it."""
        numbers = {epoch: record.get(key) for epoch, record in enumerate(self.log, 1)}
        return {epoch: number for epoch, number in numbers.items() if is_number(number)}

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Seconds of an epoch, by part and in `total`: the median, so that an epoch that stood still is ignored."""
        epochs = [record["seconds"] for record in self.log if has_shape(record, {"seconds": SECONDS})]
        return by_part(median, epochs) if epochs else self.metrics["seconds_per_epoch"]

    @cached_property
    def robustness(self) -> dict[str, Any]:
        """The evaluation of its last network; empty if there is none."""
        results = robustness_file.read_evaluation(self.folder / robustness_file.NAME)
        return results if robustness_file.is_of_run(results, self.metrics) else {}

    @cached_property
    def under_attack(self) -> list[tuple[Mapping[str, Any], float]]:
        """The settings of each attack on its last network, and the error in percent. Those of training come first."""
        found: list[tuple[Mapping[str, Any], float]] = []
        for results in (self.metrics, self.robustness):
            for name, attack in results.get("attacks", {}).items():
                if all(attack != other for other, _ in found):
                    found.append((attack, results[f"{name}_error"]))
        return found

    def error(self, measure: Measure, statistic: str = "last") -> float | None:
        """An error in percent, or None if it was not measured; `statistic` is over epochs, for clean images only."""
        if measure.corruptions:
            return mean_error(self.robustness.get("corruptions", {}).get("errors", {}), measure.corruptions)
        if measure.attack is None:
            return self.metrics[measure.key][statistic] if self.metrics else None
        return next((error for attack, error in self.under_attack if attack == measure.attack), None)


class Row(NamedTuple):
    """Runs that differ in nothing but the seed, in the order of their seeds."""

    label: str  # their name; with the beginning of the config's hash where runs of one name have several configs
    runs: list[Run]

    @property
    def finished(self) -> list[Run]:
        return [run for run in self.runs if run.status == "finished"]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that their results depend on, flat."""
        return settings(self.runs[0].config)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of an epoch, by part and in `total`: the mean over the finished runs, one or more."""
        return by_part(mean, [run.seconds for run in self.finished])

    @property
    def processes(self) -> int | str:
        """The number of processes that trained each run, such as 1, or `1 and 2` where the runs differ."""
        counts = sorted({run.metrics["machine"]["processes"] for run in self.finished})
        return counts[0] if len(counts) == 1 else " and ".join(map(str, counts))

    def errors(self, measure: Measure, statistic: str = "last") -> list[float]:
        """The error in percent of each finished run that has it."""
        return [error for run in self.finished if (error := run.error(measure, statistic)) is not None]


def rows_of(runs: Iterable[Run]) -> list[Row]:
    """Runs as rows of tables, in the order of their tables and names."""
    groups, configs = defaultdict(list), defaultdict(set)
    for run in sorted(runs, key=lambda run: (run.table, run.name, run.seed)):
        groups[run.table, run.name, run.config_hash].append(run)
        configs[run.table, run.name].add(run.config_hash)
    return [
        Row(name if len(configs[table, name]) == 1 else f"{name} [{config_hash[:8]}]", members)
        for (table, name, config_hash), members in groups.items()
    ]


def short_commit(commit: str | None) -> str:
    """`0d05fe8`, or `0d05fe8-dirty` where files differed from the commit; empty for None."""
    return (commit or "")[:7] + ("-dirty" if (commit or "").endswith("-dirty") else "")


class Found(NamedTuple):
    """The runs in a folder, in the order of their own folders, and a line on each that cannot be used."""

    runs: list[Run]
    problems: list[str]


def find_runs(results_dir: Path) -> Found:
    """Read all runs in a folder, at any depth."""
    runs, problems = [], []
    if not results_dir.is_dir():
        problems.append(f"{results_dir} is not there: give results_dir=, the folder of your runs, or train one")
    folders = {path.parent for name in ("config.yaml", "metrics.json") for path in results_dir.rglob(f"seed*/{name}")}
    for folder in sorted(folders):
        try:
            runs.append(read_run(folder))
        except InputError as error:
            problems.append(str(error))
    not_counted = _not_counted(runs)
    problems += [f"{folder}: {why}: not counted" for folder, why in not_counted.items()]
    counted = [run for run in runs if run.folder not in not_counted]
    remedy = "is damaged, or not of the run's last network: it is not shown; evaluate.py writes it again"
    evaluations = [run.folder / robustness_file.NAME for run in counted if not run.robustness]
    return Found(counted, problems + [f"{path} {remedy}" for path in evaluations if path.is_file()])


def _not_counted(runs: Iterable[Run]) -> dict[Path, str]:
    """The runs that are no samples of their own, by folder, and why."""
    found: dict[Path, str] = {}
    first: dict[tuple[str, str, int], Run] = {}
    for run in sorted(runs, key=lambda run: run.status != "finished"):
        other = first.setdefault((run.name, run.config_hash, run.seed), run)
        if other is not run:
            found[run.folder] = f"it repeats seed {run.seed} of {other.folder}"

    finished = [run for run in first.values() if run.metrics]
    by_weights = defaultdict(list)
    for run in finished:
        by_weights[run.metrics["weights"] or run.folder].append(run.folder)
    for run in finished:
        same = [folder for folder in by_weights[run.metrics["weights"]] if folder != run.folder]
        if same:
            found[run.folder] = f"its weights are those of {same[0]}"
        elif not _agrees_with_log(run):
            found[run.folder] = "its metrics.json and its log.jsonl disagree"
    return found


def _agrees_with_log(run: Run) -> bool:
    """Whether the log has every epoch, and the errors of the metrics are those that follow from it."""
    evaluated = [record for record in run.log if TOP1.key in record]
    is_whole = len(run.log) == run.metrics["epochs"] and all(has_shape(record, ERRORS) for record in evaluated)
    return is_whole and bool(evaluated) and summary(evaluated).items() <= run.metrics.items()


def read_run(folder: Path) -> Run:
    """The run in a folder; raises `InputError` if its config or its results cannot be used."""
    path, results = folder / "config.yaml", folder / "metrics.json"
    require(path.exists(), f"{results} has no config.yaml next to it: not shown")
    config = read_nested(path)
    require(has_shape(config, CONFIG), f"{path} is damaged: its run is not shown")
    if results.is_file():
        return Run(folder, config, "finished", "", _read_results(results, config))
    if holder := holder_of(folder):
        return Run(folder, config, "running", holder, {})
    if (folder / "failed.txt").is_file():
        error = read_text(folder / "failed.txt") or "failed.txt is damaged"
        return Run(folder, config, "failed", " ".join(error.split()), {})
    return Run(folder, config, "unfinished", f"{len(_read_log(folder))} of {config['recipe']['epochs']} epochs", {})


def _read_results(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's `metrics.json`; raises `InputError` if it is damaged or belongs to another config."""
    metrics = read_metrics(path)
    for key, value in flatten(metrics).items():
        is_right = "_error" not in key or is_percentage(value)
        require(is_right, f"{path}: {key} is {value!s:.40}, no percentage: its run is not shown")
    of_config = {**config, "epochs": config["recipe"]["epochs"], "config_hash": fingerprint(config)}
    for key in ("name", "seed", "epochs", "config_hash"):
        what = f"{path} is not of the config next to it: {key} is {metrics.get(key)!s:.40}"
        require(metrics.get(key) == of_config[key], f"{what}; its run is not shown")
    is_whole = has_shape(metrics, METRICS) and robustness_file.attacks_are_whole(metrics)
    require(is_whole, f"{path} is damaged: it lacks what is shown of a run, so its run is not shown")
    return metrics


def _read_log(folder: Path) -> list[dict[str, Any]]:
    lines = (read_text(folder / "log.jsonl") or "").splitlines()
    return list(takewhile(lambda record: isinstance(record, dict), map(parse_nested, lines)))
