"""All runs as a list, filtered and sorted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from puzzlemix.reporting.measures import TOP1
from puzzlemix.reporting.runs import STATUSES, Run
from puzzlemix.reporting.tables import Table
from puzzlemix.runtime.errors import require_choice

COLUMNS: dict[str, Callable[[Run], Any]] = {
    "name": lambda run: run.name,
    "seed": lambda run: run.seed,
    "table": lambda run: run.table,
    "method": lambda run: run.method,
    "status": lambda run: run.status,
    "epochs": lambda run: run.config["recipe"]["epochs"],
    "error": lambda run: run.error(TOP1, "median10"),
    "seconds": lambda run: run.seconds["total"] if run.metrics else None,
    "commit": lambda run: run.commit,
}
HEADER = ("name", "seed", "table", "method", "status", "epochs", "top-1 error %", "s / epoch", "commit", "state")


def listing(runs: Sequence[Run], filters: Mapping[str, Any], sort: str = "name", descending: bool = False) -> Table:
    """The runs that fit every filter, in the order of a column, equal ones by name and seed; what a run lacks is last.

    Args:
        runs: all.
        filters: by name of a column, the value that a run must have, or None for any; in a name * stands for anything.
        sort: one of `COLUMNS`.
        descending: the largest first.

    Raises:
        InputError: there is no such column, or a filter that no run fits.
    """
    require_choice("sort", sort, COLUMNS)
    for key, value in filters.items():
        of_runs = {str(COLUMNS[key](run)) for run in runs} | set(STATUSES if key == "status" else ())
        if value is not None and of_runs and not any(fnmatchcase(there, str(value)) for there in of_runs):
            require_choice(key, str(value), sorted(of_runs))
    shown = [run for run in runs if all(_fits(run, key, value) for key, value in filters.items())]
    shown.sort(key=lambda run: (run.name, run.seed))
    with_value = [run for run in shown if COLUMNS[sort](run) is not None]
    without = [run for run in shown if COLUMNS[sort](run) is None]
    ordered = sorted(with_value, key=COLUMNS[sort], reverse=descending) + without
    return Table(f"{len(ordered)} runs", HEADER, [_cells(run) for run in ordered])


def _fits(run: Run, key: str, value: Any) -> bool:
    return value is None or fnmatchcase(str(COLUMNS[key](run)), str(value))


def _cells(run: Run) -> tuple[str, ...]:
    *texts, error, seconds, commit = (column(run) for column in COLUMNS.values())
    numbers = ("-" if value is None else f"{value:.2f}" for value in (error, seconds))
    return (*map(str, texts), *numbers, commit or "-", run.state)
