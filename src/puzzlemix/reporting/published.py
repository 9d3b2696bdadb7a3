"""Published results as data: in `results/paper/` a CSV file a family of sources, a row a number and where it was seen.

What each column holds: `results/paper/README.md`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from puzzlemix.errors import InputError, require, require_choice
from puzzlemix.files import write_text
from puzzlemix.reporting.experiments import ExperimentFile

# How sources print what our configs call otherwise.
DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "tiny_imagenet": "Tiny-ImageNet", "imagenet": "ImageNet-1k"}
NETWORKS = {
    "preactresnet18": "PreActResNet-18",
    "preactresnet34": "PreActResNet-34",
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "wrn16_8": "WRN-16-8",
    "wrn28_2": "WRN-28-2",
    "wrn28_10": "WRN-28-10",
}
METHODS = {
    "vanilla": "Vanilla",
    "input": "Input mixup",
    "manifold": "Manifold mixup",
    "cutmix": "CutMix",
    "puzzlemix": "Puzzle Mix",
}

# What runs measure, by how sources name it; of those that print accuracies, the error is 100 minus that.
METRICS = {
    "top1_error": "top1_error",
    "top5_error": "top5_error",
    "fgsm8_error": "fgsm8_error",
    "pgd7_eps4_step1_accuracy": "pgd7_eps4_error",
    "pgd7_eps8_step2_accuracy": "pgd7_eps8_error",
}

# Which of a run's own statistics a published one is; the paper's is the median that the release prints.
STATISTICS = {
    "median of last 10 epochs": "median10",
    "paper table value": "median10",
    "as quoted": "median10",
    "last epoch": "last",
    "last checkpoint": "last",
    "converged (last)": "last",
    "best epoch": "best",
}


@dataclass(frozen=True)
class Published:
    """One published number. All fields are text, as in the file, so that 19.60 keeps its zero."""

    experiment: str  # the file in configs/experiment/ that reproduces it; empty: there is none
    source_id: str
    source: str
    table: str  # its number in the source; empty: not in a table, or not known
    dataset: str
    network: str
    epochs: str
    method: str
    variant: str
    metric: str
    value: str
    unit: str
    statistic: str
    seen_in: str
    note: str

    @property
    def measured_as(self) -> str | None:
        """What a run's metrics call it; None where runs do not measure it."""
        return METRICS.get(self.metric)

    @property
    def number(self) -> float:
        """The value; of an accuracy that runs measure as an error, the error in percent."""
        return 100 - float(self.value) if self.metric.endswith("_accuracy") else float(self.value)

    @property
    def decimals(self) -> int:
        """Digits behind the point, as printed."""
        return len(self.value.partition(".")[2])

    @property
    def half_unit(self) -> float:
        """Half of the last printed digit: 0.05 for 19.6."""
        return 0.5 * 10.0**-self.decimals

    @property
    def origin(self) -> str:
        """Its source, table and statistic, in a line."""
        return self.source + (f", Table {self.table}" if self.table else "") + f": {self.statistic}"

    @property
    def measured_by(self) -> str | None:
        """The statistic over epochs that a run has to be compared by; None where the source does not say it."""
        return next((ours for theirs, ours in STATISTICS.items() if self.statistic.startswith(theirs)), None)


COLUMNS = tuple(field.name for field in fields(Published))
MAY_BE_EMPTY = ("experiment", "table", "epochs", "variant", "note")


def read_published(folder: Path) -> list[Published]:
    """All published numbers of a folder, in the order of its files and rows.

    Raises:
        InputError: there are none, or a row is damaged.
    """
    paths = sorted(Path(folder).glob("*.csv"))
    require(bool(paths), f"no published numbers in {folder}: give published=, or restore it from the repository")
    return [row for path in paths for row in _read_file(path)]


def write_published(path: Path, rows: Iterable[Published]) -> None:
    """Write a file of published numbers.

    Raises:
        RunError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows((COLUMNS, *(asdict(row).values() for row in rows)))
    write_text(path, text.getvalue())


def columns_to_add(given: Mapping[str, str], experiments: Iterable[ExperimentFile]) -> dict[str, str]:
    """A number's columns from those that were given: the rest follows from its experiment, or is what is usual."""
    usual = {"source_id": "added", "metric": "top1_error", "unit": "%", "statistic": "paper table value"}
    experiment = next((e for e in experiments if e.name == given.get("experiment")), None)
    if experiment is not None:
        usual["dataset"] = DATASETS.get(experiment.dataset, experiment.dataset)
        usual["network"] = NETWORKS.get(experiment.network, experiment.network)
        usual["method"] = METHODS.get(experiment.method, experiment.method)
    return {**usual, **given}


def add_published(path: Path, row: Mapping[str, str], experiments: Iterable[str]) -> Published:
    """Append a number to a file of the folder of all published ones, or begin the file with it.

    Args:
        path: of the CSV file.
        row: the columns' values; what may be empty may be left out.
        experiments: the names that `experiment` may have.

    Raises:
        InputError: a value is missing, unknown or wrong, or the folder holds the same number already.
    """
    if row.get("experiment"):
        require_choice("experiment", row["experiment"], experiments)
        require_choice("metric", row["metric"], METRICS)
    added = _checked({**dict.fromkeys(COLUMNS, ""), **row}, "the row")
    there = read_published(path.parent) if any(path.parent.glob("*.csv")) else []
    what = ("source_id", "experiment", "dataset", "network", "epochs", "method", "variant", "metric", "statistic")
    for other in there:
        same = all(getattr(other, name) == getattr(added, name) for name in what)
        require(not same, f"{added.metric} of this source, setting and statistic is there already: {other.value}")
    write_published(path, [*(_read_file(path) if path.is_file() else ()), added])
    return added


def _read_file(path: Path) -> list[Published]:
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        require(tuple(reader.fieldnames or ()) == COLUMNS, f"{path} must have the columns {', '.join(COLUMNS)}")
        return [_checked(row, f"{path}, row {line}") for line, row in enumerate(reader, 2)]


def _checked(row: Mapping[str, str], where: str) -> Published:
    require(None not in row and None not in row.values(), f"{where}: as many values as columns, {len(COLUMNS)}")
    for column in COLUMNS:
        require(column in MAY_BE_EMPTY or row[column] != "", f"{where}: {column} must not be empty")
    try:
        value = float(row["value"])
    except ValueError as error:
        raise InputError(f"{where}: value must be a number, not '{row['value']}'") from error
    in_range = row["unit"] != "%" or 0 <= value <= 100
    require(in_range, f"{where}: value must be a percentage, 0 to 100, not {row['value']}")
    epochs = row["epochs"]
    require(epochs == "" or epochs.isdigit(), f"{where}: epochs must be a whole number or empty, not '{epochs}'")
    return Published(**row)
