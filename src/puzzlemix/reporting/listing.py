"""All runs as a list, filtered and sorted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

from puzzlemix.errors import require_choice
from puzzlemix.reporting.runs import STATUSES, Run
from puzzlemix.reporting.tables import Table

COLUMNS: dict[str, Callable[[Run], Any]] = {
    "name": lambda run: run.name,
    "seed": lambda run: run.seed,
    "table": lambda run: run.table,
    "method": lambda run: run.method,
    "status": lambda run: run.status,
    "epochs": lambda run: run.config["recipe"]["epochs"],
    "error": lambda run: run.metrics["top1_error"]["median10"] if run.metrics else None,
    "seconds": lambda run: run.metrics["seconds_per_epoch"]["total"] if run.metrics else None,
    "commit": lambda run: run.commit,
}
HEADER = ("name", "seed", "table", "method", "status", "epochs", "top-1 error %", "s / epoch", "commit", "state")


def listing(
    runs: Iterable[Run],
    name: str | None,
    table: str | None,
    method: str | None,
    status: str | None,
    seed: int | None,
    sort: str,
    descending: bool,
) -> Table:
    """The runs that fit every filter that is not None, in the order of a column; what a run lacks comes last.

    Args:
        runs: all.
        name: a pattern, in which * stands for anything.
        table: exact.
        method: exact.
        status: one of `STATUSES`.
        seed: exact.
        sort: one of `COLUMNS`.
        descending: the largest first.

    Raises:
        InputError: there is no such status or column.
    """
    require_choice("sort", sort, COLUMNS)
    if status is not None:
        require_choice("status", status, STATUSES)
    wanted = {"table": table, "method": method, "status": status, "seed": seed}
    shown = [
        run
        for run in runs
        if (name is None or fnmatchcase(run.name, name))
        and all(value is None or COLUMNS[key](run) == value for key, value in wanted.items())
    ]
    with_value = [run for run in shown if COLUMNS[sort](run) is not None]
    without = [run for run in shown if COLUMNS[sort](run) is None]
    ordered = sorted(with_value, key=COLUMNS[sort], reverse=descending) + without
    return Table(f"{len(ordered)} runs", HEADER, [_cells(run) for run in ordered])


def _cells(run: Run) -> tuple[str, ...]:
    *texts, error, seconds, commit = (column(run) for column in COLUMNS.values())
    numbers = ("-" if value is None else f"{value:.2f}" for value in (error, seconds))
    return (*map(str, texts), *numbers, commit or "-", run.state)
