"""The published results as data, and the files of `configs/experiment/` that reproduce them.

`results/paper/` has a CSV file for each family of sources, with a row for each number; its README explains the columns.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from puzzlemix.cli.config import composed_settings
from puzzlemix.reporting.measures import BY_NAME, Measure
from puzzlemix.runtime.errors import InputError, nearest, require

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

NOT_STATED = "not stated"

# The statistic of a run that a published one is compared with, by how the source's words begin. The paper's is the
# median of the last ten epochs, which the release prints.
PUBLISHED_STATISTICS = {
    "paper value as quoted by a user": NOT_STATED,
    "median of last 10 epochs": "median10",
    "paper table value": "median10",
    "as quoted": "median10",
    "last epoch": "last",
    "DERIVED mean over": "last",  # over corruptions; we took it from a log's last epoch
    "last checkpoint": "last",
    "converged (last)": "last",
    "best epoch": "best",
    "test at epoch": None,  # an epoch within the authors' training: no run is compared with it
    "in-training FGSM at epoch": None,
}

# Metrics of the authors' own trainings that runs do not have.
NOT_MEASURED = r"(ifgsm|pgd)[1-7]_eps[48]_step[12]_accuracy|train_top1_accuracy_on_mixed_batches|epoch_time"

MAY_BE_EMPTY = ("experiment", "table", "epochs", "variant", "note")


class ExperimentFile(NamedTuple):
    """A file of `configs/experiment/`, which also names its runs, and the options that it selects."""

    name: str
    dataset: str
    network: str
    method: str  # the option of `mixup`

    @property
    def choices(self) -> dict[str, str]:
        """The options as a run keeps them in its config."""
        return {"network": self.network, "mixup": self.method}

    @property
    def table(self) -> str:
        """The table that its runs stand in."""
        return f"{self.dataset}_{self.network}"

    def settings(self) -> dict[str, Any]:
        """The settings that the results of its runs depend on, flat; Hydra composes them, so only inside a script."""
        return composed_settings(self.name)


def experiment_files(folder: Path) -> list[ExperimentFile]:
    """All experiments of a folder, in the order of their names."""
    files = []
    for path in sorted(folder.glob("*.yaml")):
        defaults = yaml.safe_load(path.read_text())["defaults"]
        chosen = {key.removeprefix("override /"): option for entry in defaults for key, option in entry.items()}
        files.append(ExperimentFile(path.stem, chosen["dataset"], chosen["network"], chosen["mixup"]))
    return files


class Published(NamedTuple):
    """A published number. All fields are text, as in the file, so that 19.60 keeps its zero."""

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
    def measure(self) -> Measure | None:
        """The measure of a run that it is compared with; None if runs do not measure it."""
        of_15 = " of 15" if self.metric == "corruption_error" and "15 standard corruptions" in self.statistic else ""
        return BY_NAME.get(f"{self.metric}{of_15}")

    @property
    def number(self) -> float:
        """The value; an accuracy, which runs measure as an error, becomes the error in percent."""
        return 100 - float(self.value) if self.metric.endswith("_accuracy") else float(self.value)

    @property
    def decimals(self) -> int:
        """The digits behind the point, as printed."""
        return len(self.value.partition(".")[2])

    @property
    def half_unit(self) -> float:
        """Half of the last printed digit: 0.05 for 19.6."""
        return 0.5 * 10.0**-self.decimals

    @property
    def shown(self) -> str:
        """The number with as many digits as were printed."""
        return f"{self.number:.{self.decimals}f}"

    @property
    def is_one_run(self) -> bool:
        """Whether it comes from a single run, and so has a spread of its own, and is no mean over several."""
        return re.search(r"\bseed \d", f"{self.source} {self.statistic}") is not None

    @property
    def origin(self) -> str:
        """Its source, table and statistic, in a line."""
        table, epochs = f", Table {self.table}" if self.table else "", "" if self.epochs else ", epochs not stated"
        return f"{self.source}{table}: {self.statistic}{epochs}"

    @property
    def measured_by(self) -> str | None:
        """The statistic of a run that it is compared with; None for a single epoch within the training."""
        return next((ours for theirs, ours in PUBLISHED_STATISTICS.items() if self.statistic.startswith(theirs)), None)


def read_published(folder: Path, experiments: Iterable[ExperimentFile]) -> list[Published]:
    """All published numbers of a folder's CSV files, in order; each row is checked, and may name one of `experiments`.

    Raises:
        InputError: there is no such file, one cannot be read, or a row is wrong; names the file and the line.
    """
    by_name = {experiment.name: experiment for experiment in experiments}
    paths = sorted(folder.glob("*.csv"))
    require(bool(paths), f"no published numbers in {folder}: give published=, or restore it from the repository")
    return [number for path in paths for number in _read_file(path, by_name)]


def read_benchmarks(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The independent benchmarks, by `source_id` and printed dataset: each has its `title` and stated `settings`."""
    try:
        entries = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read: give published=, or restore it from the repository") from error
    return {(entry["source_id"], dataset): entry for entry in entries for dataset in entry["datasets"]}


def _read_file(path: Path, experiments: Mapping[str, ExperimentFile]) -> Iterator[Published]:
    line = 1
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets begin files with a byte order mark
            reader = csv.DictReader(file)
            wanted = f"the columns must be {', '.join(Published._fields)}: correct them, or move the file"
            require(tuple(reader.fieldnames or ()) == Published._fields, f"{path}, line 1: {wanted}")
            for row in reader:
                line = reader.line_num
                problem = next(_problems(row, experiments), None)
                require(problem is None, f"{path}, line {line}, must be corrected: {problem}")
                yield Published(**row)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): make it readable, or move it") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no CSV file after line {line} ({error}): correct it, or move it") from error


def _problems(row: Mapping[str, str], experiments: Mapping[str, ExperimentFile]) -> Iterator[str]:
    """What is wrong with a row; only the first problem counts, since later ones may follow from it."""
    if None in row or None in row.values():
        yield f"it must have {len(Published._fields)} values"
    for column in Published._fields:
        if not row[column] and column not in MAY_BE_EMPTY:
            yield f"{column} must not be empty"

    name, value, epochs = row["experiment"], row["value"], row["epochs"]
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        yield f"value must be a number, such as 19.60, not '{value}'"
    if row["unit"] == "%" and float(value) > 100:
        yield f"value must be a percentage, 0 to 100, not {value}"
    if not re.fullmatch(r"[0-9]*", epochs):
        yield f"epochs must be a whole number or empty, not '{epochs}'"
    if not name:
        return

    metric, statistic = row["metric"], row["statistic"]  # which runs of the experiment must have
    if name not in experiments:
        yield f"unknown experiment '{name}'{nearest(name, experiments)}"
    for column, names in (("dataset", DATASETS), ("network", NETWORKS), ("method", METHODS)):
        its_own = names.get(getattr(experiments[name], column))
        if its_own not in (None, row[column].removesuffix("-C")):  # CIFAR-100-C has corrupted images of CIFAR-100
            yield f"{column} of {name} is {its_own}, not {row[column]}"
    if metric not in BY_NAME and not re.fullmatch(NOT_MEASURED, metric):
        yield f"unknown metric '{metric}'{nearest(metric, BY_NAME)}"
    if metric in BY_NAME and row["unit"] != "%":
        yield f"unit must be %, not {row['unit']}"
    if metric in BY_NAME and not statistic.startswith(tuple(PUBLISHED_STATISTICS)):
        yield f"unknown statistic '{statistic}'{nearest(statistic, PUBLISHED_STATISTICS)}"
