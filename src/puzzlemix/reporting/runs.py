"""The runs below a folder, whatever state they are in, and a line on each that cannot be read.

Somebody else may have written or damaged their files, and a run that is at work may have written half of one.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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

# The shape of those parts of each file that are used.
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
    "weights": (str, NoneType),  # None: not recorded; likewise the threads
    "evaluated_on": str,
    "seconds_per_epoch": SECONDS,
    "versions": {"torch": str},
    "git_commit": (str, NoneType),
    "machine": {
        "processor": str,
        "cores": (int, NoneType),
        "threads": (int, NoneType),
        "gpu": (str, NoneType),
        "processes": int,
    },
}


@dataclass(frozen=True)
class Run:
    """One run's folder, as it was read."""

    folder: Path  # <results_dir>/<name>/seed<k>
    config: Mapping[str, Any]  # resolved
    status: str  # one of `STATUSES`
    state: str  # the error of a failed run, the process of one at work, how far an unfinished one came
    metrics: Mapping[str, Any]  # empty unless it is finished

    @property
    def name(self) -> str:
        return str(self.config["name"])

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def table(self) -> str:
        """The table that it stands in, `<dataset>_<network>` unless it was given."""
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
        """Where it was trained, in words; the number of processes is there since batch norm depends on it."""
        machine, torch = self.metrics["machine"], self.metrics["versions"]["torch"]
        cores, threads = (machine[key] or "unknown" for key in ("cores", "threads"))
        where = machine["gpu"] or f"{machine['processor']}, cores {cores}, threads {threads}"
        return f"{where}, processes {machine['processes']}, torch {torch}"

    @cached_property
    def log(self) -> list[dict[str, Any]]:
        """Its epochs' records, as far as they are whole."""
        return _read_log(self.folder)

    def logged(self, key: str) -> dict[int, float]:
        """A number of the log by epoch, from 1; most epochs of a recipe may have no errors."""
        numbers = {epoch: record.get(key) for epoch, record in enumerate(self.log, 1)}
        return {epoch: number for epoch, number in numbers.items() if is_number(number)}

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Seconds of an epoch, by part and in `total`: the median, which ignores an epoch that stood still."""
        epochs = [record["seconds"] for record in self.log if has_shape(record, {"seconds": SECONDS})]
        return by_part(median, epochs) if epochs else self.metrics["seconds_per_epoch"]

    @cached_property
    def robustness(self) -> dict[str, Any]:
        """What `evaluate.py` measured of its last network; empty where it measured another one, or none."""
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
        """An error in percent, on attacked and corrupted images that of the last epoch; None if it was not measured."""
        if measure.corruptions:
            return mean_error(self.robustness.get("corruptions", {}).get("errors", {}), measure.corruptions)
        if measure.attack is None:
            return self.metrics[measure.key][statistic] if self.metrics else None
        return next((error for attack, error in self.under_attack if attack == measure.attack), None)


class Row(NamedTuple):
    """Runs that differ in nothing but the seed, in the order of their seeds."""

    label: str  # their name, and where runs of one name have several configs, the beginning of the config's hash
    runs: list[Run]

    @property
    def finished(self) -> list[Run]:
        """The runs that have results."""
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
        found = [run.error(measure, statistic) for run in self.finished]
        return [error for error in found if error is not None]


class Found(NamedTuple):
    """The runs below a folder, in the order of their folders, and a line on each that cannot be used."""

    runs: list[Run]
    problems: list[str]


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
            problems.append(f"{path} has no config.yaml next to it: not shown")

    kept: dict[tuple[str, str, int], Run] = {}  # two runs of one config, name and seed are not two samples
    for run in sorted(runs, key=lambda run: run.status != "finished"):
        other = kept.setdefault((run.name, run.config_hash, run.seed), run)
        if other is not run:
            problems.append(f"{run.folder} repeats seed {run.seed} of {other.folder}: not counted")
    folders = {run.folder for run in kept.values()}
    doubtful = _doubtful([run for run in kept.values() if run.status == "finished"])
    problems += [f"{folder}: {why}: not counted" for folder, why in doubtful.items()]
    return Found([run for run in runs if run.folder in folders - doubtful.keys()], problems)


def _doubtful(finished: Sequence[Run]) -> dict[Path, str]:
    """The finished runs whose results cannot be their own, by folder, and why."""
    by_weights = defaultdict(list)
    for run in finished:
        by_weights[run.metrics["weights"]].append(run.folder)
    found = {}
    for run in finished:
        same = [folder for folder in by_weights[run.metrics["weights"]] if folder != run.folder]
        if same and run.metrics["weights"] is not None:
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
    """One run's folder; `InputError` if its config or its results cannot be used."""
    path = folder / "config.yaml"
    config = read_nested(path)
    require(has_shape(config, CONFIG), f"{path} is damaged: its run is not shown")
    if (folder / "metrics.json").is_file():
        return Run(folder, config, "finished", "", _read_results(folder / "metrics.json", config))
    if holder := holder_of(folder):
        return Run(folder, config, "running", holder, {})
    failure = folder / "failed.txt"
    if failure.is_file():
        text = read_text(failure)
        state = f"{failure.name} is damaged" if text is None else " ".join(text.split())
        return Run(folder, config, "failed", state, {})
    return Run(folder, config, "unfinished", f"{len(_read_log(folder))} of {config['recipe']['epochs']} epochs", {})


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


def short_commit(commit: str | None) -> str:
    """`0d05fe8`, or `0d05fe8-dirty` where files differed from the commit; empty of None."""
    return (commit or "")[:7] + ("-dirty" if (commit or "").endswith("-dirty") else "")


def _read_results(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's `metrics.json`; `InputError` if it is damaged, has no numbers, or belongs to another config."""
    metrics = read_metrics(path)
    errors = {key: value for key, value in flatten(metrics).items() if "_error" in key}
    require(bool(errors), f"{path} holds no errors: delete it and start the same run again")
    wrong = next((key for key, value in errors.items() if not is_percentage(value)), None)
    require(wrong is None, f"{path}: {wrong} is {errors.get(wrong)!s:.40}, no percentage: its run is not shown")
    wanted = {**config, "epochs": config["recipe"]["epochs"], "config_hash": fingerprint(config)}
    other = next((key for key in ("name", "seed", "epochs", "config_hash") if metrics.get(key) != wanted[key]), None)
    of_what = f"not of the config next to it: {other} is {metrics.get(other)!s:.40}"
    require(other is None, f"{path} is {of_what}; its run is not shown")
    whole = has_shape(metrics, METRICS) and robustness_file.attacks_are_whole(metrics)
    require(whole, f"{path} is damaged: it lacks what is shown of a run, so its run is not shown")
    return metrics


def _read_log(folder: Path) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for line in (read_text(folder / "log.jsonl") or "").splitlines():
        record = parse_nested(line)
        if not isinstance(record, dict):
            break
        records.append(record)
    return records


def _problem_of_evaluation(run: Run) -> list[str]:
    """A line on a run's evaluation, where there is one and it cannot be shown."""
    path = run.folder / robustness_file.NAME
    if not path.is_file() or run.robustness:
        return []
    if not robustness_file.read_evaluation(path):
        return [f"{path} is damaged: it is not shown; evaluate.py writes it again"]
    of = "another network than the run's last" if run.metrics else "a run that is not finished"
    return [f"{path} is of {of}: it is not shown"]
