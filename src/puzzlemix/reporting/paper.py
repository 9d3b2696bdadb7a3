"""Published results: a CSV file for each table in `results/paper/`, and the settings behind its rows.

A row of a file is a row of the published table. Numbers stay text, so that 19.60 keeps its zero; errors are in percent.
"""

import csv
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from puzzlemix.reporting.measures import BY_KEY, Measure
from puzzlemix.runtime.errors import InputError, nearest, require
from puzzlemix.runtime.nested import has_shape, read_nested
from puzzlemix.training.settings import differences, settings_fingerprint

FIRST, LAST = ("label", "experiment"), ("statistic", "not_stated", "source", "note")  # the columns around the numbers
MAY_BE_EMPTY = ("experiment", "not_stated", "note")

# Numbers of other people's trainings that our runs do not have.
NOT_MEASURED = (
    *("train_top1_error_on_mixed_images", "attacked_eps4_error", "attacked_eps8_error", "fgsm_error"),
    *("training_h", "training_time_ratio", "epoch_s", "extra_gpu_h", "gpu_memory_gb"),
)

# The statistic of a run that a published number is compared with, by how the statistic of its row begins.
STATISTICS = {
    "median of last 10 epochs": "median10",
    "not stated; in Table 2 the median of last 10": "median10",
    "mean of": "median10",
    "last epoch": "last",
    "best epoch": "best",
}

# The shape of settings.yaml.
EQUIVALENT = {"setting": str, "experiments": str, "values": list}
SETTINGS = {"equivalents": [EQUIVALENT], "experiments": {"*": {"fingerprint": str, "settings": dict}}}


class PublishedRow(NamedTuple):
    """A row of a published table."""

    label: str  # as printed
    experiment: str  # the file in configs/experiment/ that reproduces it; empty if there is none
    numbers: dict[str, str]  # as printed, by column, without empty ones
    statistic: str  # over epochs and runs, as far as the source states it
    not_stated: tuple[str, ...]  # settings that the source does not state
    source: str  # and where it was seen
    note: str

    @property
    def runs(self) -> int:
        """The number of runs that a number is the mean of, 1 if it is not stated."""
        stated = re.search(r"mean of (\d+)", self.statistic)
        return int(stated[1]) if stated else 1

    @property
    def measured_by(self) -> str:
        """The statistic of our runs that the row is compared with."""
        return next(ours for theirs, ours in STATISTICS.items() if self.statistic.startswith(theirs))


class PublishedTable(NamedTuple):
    """A published table, its rows in their own order."""

    name: str  # of its file
    title: str
    columns: tuple[str, ...]  # of numbers
    rows: list[PublishedRow]

    @property
    def measures(self) -> list[Measure]:
        """The columns that runs measure."""
        return [BY_KEY[column] for column in self.columns if column in BY_KEY]


def read_published(folder: Path, experiments: Collection[str]) -> list[PublishedTable]:
    """All published tables of a folder, in the order of its `titles.yaml`.

    Args:
        folder: of a CSV file for each table.
        experiments: the names that a row may give as its experiment.

    Raises:
        InputError: there is no file, one cannot be read, or a row is wrong; names the file and the line.
    """
    paths = sorted(folder.glob("*.csv"))
    require(bool(paths), f"no published numbers in {folder}: give published=, or restore it from the repository")
    titles = read_nested(folder / "titles.yaml") or {}
    paths.sort(key=lambda path: [*titles].index(path.stem) if path.stem in titles else len(titles))
    return [_read_table(path, titles.get(path.stem, path.stem), experiments) for path in paths]


def _read_table(path: Path, title: str, experiments: Collection[str]) -> PublishedTable:
    line, rows = 1, []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets begin files with a byte order mark
            reader = csv.DictReader(file)
            columns = tuple(reader.fieldnames or ())
            around = f"the first columns must be {', '.join(FIRST)}, the last ones {', '.join(LAST)}"
            require(columns[:2] == FIRST and columns[-4:] == LAST, f"{path}, line 1: {around}")
            for column in columns[2:-4]:
                known = (*BY_KEY, *NOT_MEASURED)
                require(column in known, f"{path}, line 1: unknown metric '{column}'{nearest(column, known)}")
            for values in reader:
                line = reader.line_num
                problem = next(_problems(values, columns, experiments), None)
                require(problem is None, f"{path}, line {line}, must be corrected: {problem}")
                row = _row(values, columns[2:-4])
                is_repeated = any(row[:2] == other[:2] and row[3:6] == other[3:6] for other in rows)
                require(not is_repeated, f"{path}, line {line}: this row stands above already: leave one out")
                rows.append(row)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): make it readable, or move it") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no CSV file after line {line} ({error}): correct it, or move it") from error
    return PublishedTable(path.stem, title, columns[2:-4], rows)


def _row(values: Mapping[str, str], columns: Sequence[str]) -> PublishedRow:
    numbers = {column: values[column] for column in columns if values[column]}
    not_stated = tuple(values["not_stated"].split())
    statistic, _, source, note = (values[column] for column in LAST)
    return PublishedRow(values["label"], values["experiment"], numbers, statistic, not_stated, source, note)


def _problems(values: Mapping[str, Any], columns: Sequence[str], experiments: Collection[str]) -> Iterator[str]:
    """The problems of a row. Only the first one counts, since the others may follow from it."""
    if None in values or None in values.values():
        yield f"it must have {len(columns)} values"
    for column in (*FIRST, *LAST):
        if not values[column] and column not in MAY_BE_EMPTY:
            yield f"{column} must not be empty"
    for column in columns[2:-4]:
        number = values[column]
        if number and not re.fullmatch(r"[0-9]+(\.[0-9]+)?", number):
            yield f"{column} must be a number, such as 19.60, not '{number}'"
        if number and column.endswith("_error") and float(number) > 100:
            yield f"{column} must be a percentage, 0 to 100, not {number}"
    experiment, statistic = values["experiment"], values["statistic"]
    if experiment and experiment not in experiments:
        yield f"unknown experiment '{experiment}'{nearest(experiment, experiments)}"
    if experiment and not statistic.startswith(tuple(STATISTICS)):
        yield f"unknown statistic '{statistic}'{nearest(statistic, STATISTICS)}"


class PublishedSettings(NamedTuple):
    """The settings behind the published rows, which runs are compared with instead of the files in configs/."""

    experiments: dict[str, dict[str, Any]]  # by experiment, flat, with the number of processes
    equivalents: list[dict[str, Any]]  # settings of which several values count as the published one

    def departures(self, experiment: str, ours: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """The settings of a run that are not the published ones, by name: ours and theirs."""
        found = differences(ours, self.experiments[experiment])
        return {key: values for key, values in found.items() if not self._are_equivalent(experiment, key, values)}

    def chosen(self, experiment: str, ours: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a run of which several values count as the published one."""
        keys = [one["setting"] for one in self.equivalents if fnmatchcase(experiment, one["experiments"])]
        return {key: ours[key] for key in keys if key in ours}

    def _are_equivalent(self, experiment: str, key: str, values: Sequence[Any]) -> bool:
        return any(
            one["setting"] == key and fnmatchcase(experiment, one["experiments"]) and set(values) <= set(one["values"])
            for one in self.equivalents
        )


def read_settings(path: Path) -> PublishedSettings:
    """Read the settings behind the published rows; raises `InputError` if they are damaged or have been edited."""
    content, restore = read_nested(path), "restore it from the repository"
    require(has_shape(content, SETTINGS), f"{path} is missing or damaged: {restore}")
    for experiment, entry in content["experiments"].items():
        is_whole = settings_fingerprint(entry["settings"]) == entry["fingerprint"]
        require(is_whole, f"{path}: the settings of {experiment} do not have their fingerprint: {restore}")
    settings = {experiment: entry["settings"] for experiment, entry in content["experiments"].items()}
    return PublishedSettings(settings, content["equivalents"])
