"""Rows of runs beside published numbers: the authors', with a verdict each, and those of independent benchmarks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import yaml

from puzzlemix.reporting.experiments import ExperimentFile
from puzzlemix.reporting.measures import MEASURES, TOP1, Measure
from puzzlemix.reporting.published import DATASETS, METHODS, NETWORKS, NOT_STATED, Published
from puzzlemix.reporting.runs import Row
from puzzlemix.reporting.verdict import Verdict, judge
from puzzlemix.runtime.errors import InputError
from puzzlemix.training.settings import differences

VARIANTS = {"mixup.alpha": r"\balpha (\d+\.?\d*)", "mixup.prob": r"\bp=(\d+\.?\d*)"}  # as benchmarks print them
# Of benchmarks, the network that stands beside ours where it differs, which is said.
NEAR = {"PreActResNet-18": "ResNet-18"}


class Line(NamedTuple):
    """One number of a row beside a published one.

    Attributes:
        label: of the row.
        measure: what of it.
        here: its values, one a seed; none where there is no run.
        published: None where no number is available.
        verdict: on the two.
    """

    label: str
    measure: Measure
    here: list[float]
    published: Published | None
    verdict: Verdict


@dataclass(frozen=True)
class Benchmark:
    """An independent benchmark's number beside a row.

    Attributes:
        title: of its column.
        published: the row of the benchmark nearest to ours.
        differences: what is known to differ, as `key theirs (here ours)`.
    """

    title: str
    published: Published
    differences: list[str]


def experiment_of(row: Row, experiments: Iterable[ExperimentFile]) -> ExperimentFile | None:
    """The experiment that a row is a run of, by its name, or that of its table and method; None where there is none."""
    run = row.runs[0]
    named = {experiment.name: experiment for experiment in experiments}
    return named.get(run.name, named.get(f"{run.table}_{run.method}"))


def compare_row(
    row: Row, experiment: ExperimentFile | None, published: Iterable[Published], tolerance: float
) -> list[Line]:
    """A row beside every comparable number of its experiment; one line without a number where there is none.

    Args:
        row: of runs.
        experiment: whose setting the published numbers have.
        published: all numbers.
        tolerance: in percentage points, see `judge`.
    """
    numbers = comparable(published, experiment)
    if not numbers:
        verdict = Verdict("not available") if row.finished else Verdict("no run")
        return [Line(row.label, TOP1, row.errors(TOP1, "median10"), None, verdict)]
    found = differences(experiment.settings(), row.settings)
    lines = []
    for number in numbers:
        printed = {"recipe.epochs": (int(number.epochs), row.settings["recipe.epochs"])} if number.epochs else {}
        apart = found | {key: both for key, both in printed.items() if both[0] != both[1]}
        errors = row.errors(number.measure, "median10" if number.measured_by == NOT_STATED else number.measured_by)
        if not errors:
            verdict = Verdict("not measured" if row.finished else "no run")
        else:
            verdict = judge(errors, number, in_words(apart), tolerance)
        lines.append(Line(row.label, number.measure, errors, number, verdict))
    return lines


def without_run(experiment: ExperimentFile, published: Iterable[Published]) -> list[Line]:
    """The lines of an experiment that nobody has run here."""
    numbers = comparable(published, experiment) or [None]
    name, verdict = experiment.name, Verdict("no run")
    return [Line(name, number.measure if number else TOP1, [], number, verdict) for number in numbers]


def comparable(published: Iterable[Published], experiment: ExperimentFile | None) -> list[Published]:
    """The numbers of an experiment that runs measure, by a statistic that they have; each once, if printed twice."""
    if experiment is None:
        return []
    found = {}
    for number in published:
        if number.experiment == experiment.name and number.measure and number.measured_by:
            found.setdefault((number.measure.key, number.value, number.measured_by), number)
    return sorted(found.values(), key=lambda number: MEASURES.index(number.measure))


def in_words(found: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """Settings that differ, as `recipe.epochs 40, not 1200`: the run's, not the published one's."""
    return [f"{key} {ours}, not {theirs}" for key, (theirs, ours) in found.items()]


def read_benchmarks(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The independent benchmarks, by `source_id` and printed dataset: each has its `title` and stated `settings`.

    Raises:
        InputError: the file is not there, or damaged.
    """
    try:
        entries = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read: give published=, or restore it from the repository") from error
    return {(entry["source_id"], dataset): entry for entry in entries for dataset in entry["datasets"]}


def benchmarks_of(
    settings: Mapping[str, Any],
    choices: Mapping[str, str],
    published: Iterable[Published],
    benchmarks: Mapping[tuple[str, str], Mapping[str, Any]],
) -> dict[str, Benchmark]:
    """For each benchmark that has this dataset and method on a near network, by title, the number nearest to a setting.

    Top-1 errors alone, and of those the median of the last epochs, since other statistics are not the paper's.

    Args:
        settings: of a run or an experiment, flat.
        choices: the options of `network` and `mixup`.
        published: all numbers.
        benchmarks: as `read_benchmarks` gives them.
    """
    network = NETWORKS.get(choices["network"], choices["network"])
    schedule = "phases" if settings["recipe.phases"] else settings["recipe.schedule"]
    ours = {**settings, "network": network, "schedule": schedule, "crop": _crop(settings)}
    dataset, method = DATASETS.get(settings["dataset.name"]), METHODS.get(choices["mixup"])
    nearest: dict[str, tuple[tuple[int, int], Benchmark]] = {}
    for number in published:
        benchmark = benchmarks.get((number.source_id, number.dataset))
        beside = (
            number.dataset == dataset and number.method == method and number.network in (network, NEAR.get(network))
        )
        same_kind = number.measure is TOP1 and number.statistic.startswith("median of last") and number.epochs
        if benchmark is None or not (beside and same_kind) or "RSB" in number.variant:  # RSB: another recipe
            continue
        theirs = {**benchmark["settings"], **_settings_printed(number)}
        found = {key: (value, ours[key]) for key, value in theirs.items() if key in ours and value != ours[key]}
        words = [f"{key} {value} (here {own})" for key, (value, own) in found.items()]
        title, distance = benchmark["title"], (abs(theirs["recipe.epochs"] - ours["recipe.epochs"]), len(found))
        entry = distance, Benchmark(title, number, words)
        nearest[title] = min(nearest.get(title, entry), entry, key=lambda candidate: candidate[0])
    return {title: benchmark for title, (_, benchmark) in nearest.items()}


def _crop(settings: Mapping[str, Any]) -> str:
    """Of training images, in the words of `benchmarks.yaml`."""
    padding = settings.get("dataset.crop_padding")  # which images in folders have not
    return "of random size" if padding is None else f"into {padding} zeros"


def _settings_printed(number: Published) -> dict[str, Any]:
    """What a benchmark's row itself says of its setting."""
    printed = {key: re.search(pattern, number.variant) for key, pattern in VARIANTS.items()}
    values = {key: float(found.group(1)) for key, found in printed.items() if found}
    return {"network": number.network, "recipe.epochs": int(number.epochs), **values}


def difference(line: Line) -> float | None:
    """Mean here minus the published number, in percentage points; None where one of them is missing."""
    return mean(line.here) - line.published.number if line.here and line.published else None
