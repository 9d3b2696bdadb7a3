"""Adding a published number to `results/paper/`: what may be left out, and what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from puzzlemix.errors import require, require_choice
from puzzlemix.reporting.experiments import ExperimentFile
from puzzlemix.reporting.measures import MEASURES
from puzzlemix.reporting.published import (
    COLUMNS,
    DATASETS,
    METHODS,
    NETWORKS,
    PUBLISHED_STATISTICS,
    Published,
    checked,
    read_file,
    read_published,
    write_published,
)


def columns_to_add(given: Mapping[str, str], experiments: Iterable[ExperimentFile]) -> dict[str, str]:
    """A number's columns from those that were given: the rest follows from its experiment, or is what is usual.

    Raises:
        InputError: what was given contradicts its experiment.
    """
    usual = {"source_id": "added", "metric": "top1_error", "unit": "%", "statistic": "paper table value"}
    experiment = next((e for e in experiments if e.name == given.get("experiment")), None)
    if experiment is not None:
        its_own = {
            "dataset": DATASETS.get(experiment.dataset, experiment.dataset),
            "network": NETWORKS.get(experiment.network, experiment.network),
            "method": METHODS.get(experiment.method, experiment.method),
        }
        for key, value in its_own.items():
            fits = given.get(key, value) == value
            require(fits, f"{key} of {experiment.name} is {value}, not {given.get(key)}: leave {key} out")
        usual |= its_own
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
        require_choice("metric", row["metric"], [measure.key for measure in MEASURES])
        require(row["unit"] == "%", f"unit must be %, not {row['unit']}: experiments are compared in percent")
    added = checked({**dict.fromkeys(COLUMNS, ""), **row}, "the row")
    if added.experiment:
        begins = ", ".join(f"'{name}'" for name in PUBLISHED_STATISTICS)
        require(added.measured_by is not None, f"statistic must begin as one of {begins}, not '{added.statistic}'")
    there, _ = read_published(path.parent)
    what = ("source_id", "experiment", "dataset", "network", "epochs", "method", "variant", "metric", "statistic")
    for other in there:
        same = all(getattr(other, name) == getattr(added, name) for name in what)
        require(not same, f"{added.metric} of this source, setting and statistic is there already: {other.value}")
    write_published(path, [*(read_file(path) if path.is_file() else ()), added])
    return added
