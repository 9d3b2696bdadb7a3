"""Published results as data: in `results/paper/` a CSV file a family of sources, a row a number and where it was seen.

What each column holds: `results/paper/README.md`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from puzzlemix.errors import InputError, require
from puzzlemix.files import write_text
from puzzlemix.reporting.measures import BY_NAME, Measure

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

# Of a run's own statistics that which is published, by how it begins; the paper's is the median the release prints.
PUBLISHED_STATISTICS = {
    "paper value as quoted by a user": NOT_STATED,
    "median of last 10 epochs": "median10",
    "paper table value": "median10",
    "as quoted": "median10",
    "last epoch": "last",
    "DERIVED mean over": "last",  # of corruptions, by us, from a log's last epoch
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
    def measure(self) -> Measure | None:
        """What a run has to be compared by; None where runs do not measure it."""
        of_15 = " of 15" if self.metric == "corruption_error" and "15 standard corruptions" in self.statistic else ""
        return BY_NAME.get(f"{self.metric}{of_15}")

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
    def one_run(self) -> bool:
        """Whether it is of a single run, and so has a spread of its own, rather than a mean of several."""
        return re.search(r"\bseed \d", f"{self.source} {self.statistic}") is not None

    @property
    def origin(self) -> str:
        """Its source, table and statistic, in a line."""
        table, epochs = f", Table {self.table}" if self.table else "", "" if self.epochs else ", epochs not stated"
        return f"{self.source}{table}: {self.statistic}{epochs}"

    @property
    def measured_by(self) -> str | None:
        """The statistic over epochs that a run has to be compared by; None of a single epoch within the training."""
        return next((ours for theirs, ours in PUBLISHED_STATISTICS.items() if self.statistic.startswith(theirs)), None)


class AllPublished(NamedTuple):
    """The numbers of a folder, in the order of its files and rows, and a line on each file that cannot be used."""

    numbers: list[Published]
    problems: list[str]


COLUMNS = tuple(field.name for field in fields(Published))
MAY_BE_EMPTY = ("experiment", "table", "epochs", "variant", "note")


def read_published(folder: Path) -> AllPublished:
    """All published numbers of a folder, and what cannot be used of it."""
    numbers, problems = [], []
    paths = sorted(Path(folder).glob("*.csv"))
    if not paths:
        problems.append(f"no published numbers in {folder}: give published=, or restore it from the repository")
    for path in paths:
        try:
            numbers += read_file(path)
        except InputError as error:
            problems.append(f"{error}; none of this file's numbers is shown")
    return AllPublished(numbers, problems)


def write_published(path: Path, rows: Iterable[Published]) -> None:
    """Write a file of published numbers.

    Raises:
        RunError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows((COLUMNS, *(asdict(row).values() for row in rows)))
    write_text(path, text.getvalue())


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file.

    Raises:
        InputError: it cannot be read, its columns are others, or a row is too short or too long.
    """
    try:
        with open(path, newline="") as file:
            reader = csv.DictReader(file)
            require(tuple(reader.fieldnames or ()) == tuple(columns), f"{path} must have columns {', '.join(columns)}")
            rows = list(reader)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): give a CSV file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no CSV file: {error}") from error
    for line, row in enumerate(rows, 2):
        whole = None not in row and None not in row.values()
        require(whole, f"{path}, row {line}: as many values as columns, {len(columns)}")
    return rows


def read_file(path: Path) -> list[Published]:
    """The numbers of one file.

    Raises:
        InputError: it is no such file, or a row is damaged.
    """
    return [checked(row, f"{path}, row {line}") for line, row in enumerate(read_table(path, COLUMNS), 2)]


def checked(row: Mapping[str, str], where: str) -> Published:
    """A row as a number; `where` is it, for messages.

    Raises:
        InputError: a value is missing or wrong.
    """
    for column in COLUMNS:
        require(column in MAY_BE_EMPTY or row[column] != "", f"{where}: {column} must not be empty")
    try:
        value = float(row["value"])
    except ValueError as error:
        raise InputError(f"{where}: value must be a number, not '{row['value']}'") from error
    require(isfinite(value), f"{where}: value must be finite, not {row['value']}")
    in_range = row["unit"] != "%" or 0 <= value <= 100
    require(in_range, f"{where}: value must be a percentage, 0 to 100, not {row['value']}")
    epochs = row["epochs"]
    require(epochs == "" or epochs.isdecimal(), f"{where}: epochs must be a whole number or empty, not '{epochs}'")
    return Published(**row)
