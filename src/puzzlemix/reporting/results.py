"""What the comparison shows of each table: its runs, and where there are published numbers, both side by side."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from puzzlemix.reporting.comparison import (
    Benchmark,
    Line,
    benchmarks_of,
    compare_row,
    difference,
    experiment_of,
    read_benchmarks,
    without_run,
)
from puzzlemix.reporting.experiments import ExperimentFile, experiment_files
from puzzlemix.reporting.measures import ATTACKED, TOP1
from puzzlemix.reporting.published import METHODS, read_published
from puzzlemix.reporting.robustness import robustness_table
from puzzlemix.reporting.runs import Row, by_name, find_runs, rows_of
from puzzlemix.reporting.seconds import seconds_table
from puzzlemix.reporting.tables import Table, spread
from puzzlemix.reporting.verdict import welch_p
from puzzlemix.runtime.errors import nearest, require, require_number
from puzzlemix.training.log import STATISTICS

RUNS_HEADER = ("run", "seeds", "epochs", TOP1.title, "last", "best", *(m.title for m in ATTACKED), "s / epoch")
NOT_TOLD = ("_target_", "name", "mean", "std")  # of the settings of all rows: it is in the title, or would fill a line
NAMED = 6  # runs in a note, at most
LINES_HEADER = ("run", "metric", "seeds", "here", "published", "difference", "verdict", "source")


class TableResults(NamedTuple):
    """All that is known of one table.

    Attributes:
        name: `<dataset>_<network>`.
        rows: of its runs.
        lines: beside the authors' numbers; empty where the table is none of the paper's.
        benchmarks: independent numbers, by the label of a row or the name of an experiment, and by their titles.
    """

    name: str
    rows: list[Row]
    lines: list[Line]
    benchmarks: dict[str, dict[str, Benchmark]]

    @property
    def short_rows(self) -> dict[str, Row]:
        """The rows, by their labels as `short` has them."""
        return {self.short(row.label): row for row in self.rows}

    def only(self, labels: Sequence[Any]) -> TableResults:
        """The same table with the rows alone that are called so; * stands for anything.

        Raises:
            InputError: `labels` is empty, or no row is called as one of them.
        """
        require(bool(labels), "rows must not be empty: rows=['*'] are all")
        rows, found = self.short_rows, set()
        for label in map(str, labels):
            fitting = fnmatch.filter(rows, label)
            require(bool(fitting), f"unknown row '{label}'{nearest(label, rows)}")
            found.update(fitting)
        return self._replace(rows=[row for label, row in rows.items() if label in found])

    def rows_to_draw(self, most: int) -> dict[str, Row]:
        """By label, as many rows as a figure shows: the best of each method, then the best of all.

        Rows called as their method come first, the paper's in their order, so that tables of these have like colours.
        """
        ordered = sorted(self.rows, key=_error)
        first_of_method: dict[str, Row] = {}
        for row in ordered:
            first_of_method.setdefault(row.runs[0].method, row)
        first = list(first_of_method.values())
        chosen = [*first, *(row for row in ordered if all(row is not other for other in first))][:most]
        drawn = [(label, row) for label, row in self.short_rows.items() if any(row is one for one in chosen)]
        return dict(sorted(drawn, key=lambda drawn: _place(*drawn)))

    def short(self, label: str) -> str:
        """A row's label without the name of the table that it stands in, unless another row is called that."""
        short = label.removeprefix(f"{self.name}_")
        return label if any(row.label == short for row in self.rows) else short


class Results(NamedTuple):
    """Every table that was asked for, and a line on each run that cannot be shown."""

    tables: list[TableResults]
    problems: list[str]


def results_of(config: Mapping[str, Any], repository: Path) -> Results:
    """What a config of `configs/compare.yaml` asks for; see `join_results` for what it raises."""
    folders = Path(config["results_dir"]), repository / config["published"]
    experiments = experiment_files(repository / "configs" / "experiment")
    return join_results(*folders, experiments, config["tolerance"], config["table"])


def join_results(
    results_dir: Path,
    published_dir: Path,
    experiments: Sequence[ExperimentFile],
    tolerance: float,
    table: str | None = None,
) -> Results:
    """Read all runs and all published numbers, and join them.

    Args:
        results_dir: the folder of the runs.
        published_dir: the folder of the published numbers.
        experiments: that published numbers may be of.
        tolerance: of the verdicts, in percentage points.
        table: one alone, with or without runs; None: all that have runs, or all of the paper where none has.

    Raises:
        InputError: a folder or its content cannot be read, or there is no such table.
    """
    require_number("tolerance", tolerance)
    found, published = find_runs(results_dir), read_published(published_dir, experiments)
    benchmarks = read_benchmarks(published_dir / "benchmarks.yaml")
    by_table = defaultdict(list)
    for row in rows_of(found.runs):
        by_table[row.runs[0].table].append(row)
    known = {*by_table, *(experiment.table for experiment in experiments)}
    require(table is None or table in known, f"unknown table '{table}'{nearest(str(table), known)}")

    tables = []
    for name in (sorted(by_table) or sorted(known)) if table is None else [table]:
        of_table, rows, lines = [e for e in experiments if e.table == name], by_table[name], []
        beside = {row.label: benchmarks_of(row.settings, row.runs[0].choices, published, benchmarks) for row in rows}
        run = {row.label: experiment_of(row, of_table) for row in rows}
        for row in rows if of_table else ():
            lines += compare_row(row, run[row.label], published, tolerance)
        for experiment in of_table:
            if experiment not in run.values():
                lines += without_run(experiment, published)
                theirs = benchmarks_of(experiment.settings(), experiment.choices, published, benchmarks)
                beside[experiment.name] = theirs
        tables.append(TableResults(name, rows, lines, beside))
    return Results(tables, found.problems)


def _place(label: str, row: Row) -> tuple[bool, int]:
    """Where a row is drawn: variants of a method after all that are called as theirs."""
    method, order = row.runs[0].method, list(METHODS)
    return label != method, order.index(method) if method in order else len(order)


def _error(row: Row) -> float:
    errors = row.errors(TOP1, "median10")
    return mean(errors) if errors else inf


def as_tables(results: Iterable[TableResults], here: str | None = None) -> list[Table]:
    """The tables to show; with `here`, the commit of this code or "" of none, runs of others are told apart from it.

    Without it the tables depend on the runs alone.
    """
    tables = []
    for result in results:
        if result.rows:
            rows = result.short_rows
            notes = notes_on(rows, here)
            cells = [run_cells(row, label) for label, row in rows.items()]
            tables.append(Table(result.name, RUNS_HEADER, cells, notes))
            further = robustness_table(result.name, rows), seconds_table(result.name, rows)
            tables += [table for table in further if table is not None]
        if result.lines:
            tables.append(beside_published(result))
    return tables


def run_cells(row: Row, label: str) -> tuple[str, ...]:
    """A row as `RUNS_HEADER` says; the first error is `median10`, as in the paper's tables."""
    on = {run.metrics["evaluated_on"] for run in row.finished} - {"test"}
    return (
        label + "".join(f", {images} images" for images in sorted(on)),
        str(len(row.finished)),
        str(row.settings["recipe.epochs"]),
        *(spread(row.errors(TOP1, statistic)) for statistic in STATISTICS),
        *(spread(row.errors(measure), of=len(row.finished)) for measure in ATTACKED),
        spread([run.seconds["total"] for run in row.finished]),
    )


def notes_on(rows: Mapping[str, Row], here: str | None) -> list[str]:
    """What is alike in all rows, and a line on each run that is not finished, other commit, machine, and so on."""
    runs = by_name(rows)
    notes = [f"{'all rows' if len(rows) > 1 else 'the row'}: {alike(list(rows.values()))}"]
    notes += significance(rows)
    notes += [f"{name}: {run.status}, {run.state}" for name, run in runs.items() if run.status != "finished"]
    commits, machines, processes = defaultdict(list), defaultdict(list), defaultdict(list)
    for name, run in runs.items():
        if run.status == "finished":
            commits[run.commit].append(name)
            machines[run.machine].append(name)
            processes[run.metrics["machine"]["processes"]].append(name)
    apart = "" if here is None else f", this code is {here or 'of none'}"
    for other in sorted(set(commits) - {here or None}):
        notes.append(f"{named(commits[other], len(runs))}: of commit {other or 'unknown'}{apart}")
    notes += [f"{named(found, len(runs))}: on {machine}" for machine, found in sorted(machines.items())]
    if len(processes) > 1:  # batch norm and augmentation differ
        notes += [f"{named(found, len(runs))}: of {count} process(es)" for count, found in sorted(processes.items())]
    return notes


def alike(rows: Sequence[Row]) -> str:
    """The settings of dataset, network and recipe that all rows have: `num_classes 20, initial_channels 16, ...`."""
    first, *others = (row.settings for row in rows)
    same = [key for key, value in first.items() if all(other.get(key) == value for other in others)]
    told = {}
    for key in same:
        part, _, name = key.partition(".")
        if part in ("dataset", "network", "recipe") and name not in NOT_TOLD and first[key] not in (None, []):
            told[name] = first[key]
    return ", ".join(f"{name} {value}" for name, value in told.items())


def significance(rows: Mapping[str, Row]) -> list[str]:
    """A line with the p-value of Puzzle Mix's error against each other row, of two seeds or more; or no line."""
    errors = {label: row.errors(TOP1, "median10") for label, row in rows.items()}
    ours = errors.pop("puzzlemix", [])
    p_values = {label: welch_p(ours, theirs) for label, theirs in errors.items()}
    shown = ", ".join(f"{label} {p:.3f}" for label, p in p_values.items() if p is not None)
    return [f"p-values of Welch's t-test on the top-1 error, puzzlemix against: {shown}"] if shown else []


def named(some: Sequence[str], of: int) -> str:
    """Which runs these are, of how many; not one by one where that would fill the page."""
    if len(some) == of:
        return f"all {of} runs" if of > 1 else "the run"
    return ", ".join(some) if len(some) <= NAMED else f"{len(some)} of {of} runs ({', '.join(some[:NAMED])}, ...)"


def beside_published(result: TableResults) -> Table:
    """A table's lines beside the authors' numbers, with a column for each independent benchmark."""
    titles = sorted({title for beside in result.benchmarks.values() for title in beside})
    rows = []
    for line in result.lines:
        beside = result.benchmarks.get(line.label, {}) if line.measure is TOP1 else {}
        rows.append(
            (*_line_cells(line, result.short(line.label)), *(_with_epochs(beside.get(title)) for title in titles))
        )
    return Table(f"{result.name}, beside published numbers", (*LINES_HEADER, *titles), rows, _on_benchmarks(result))


def _on_benchmarks(result: TableResults) -> list[str]:
    """A line for each benchmark and setting in which it differs, with the rows that it is beside."""
    labels = defaultdict(list)
    for label, beside in result.benchmarks.items():
        for title, benchmark in beside.items():
            labels[title, ", ".join(benchmark.differences) or "nothing known"].append(result.short(label))
    return [
        f"{title} beside {', '.join(found)}: differs in {words}" for (title, words), found in sorted(labels.items())
    ]


def _line_cells(line: Line, label: str) -> tuple[str, ...]:
    apart, number = difference(line), line.published
    return (
        label,
        line.measure.title,
        str(len(line.here)),
        spread(line.here),
        f"{number.number:.{number.decimals}f}" if number else "not available",
        "-" if apart is None else f"{apart:+.2f}",
        str(line.verdict),
        number.origin if number else "-",
    )


def _with_epochs(benchmark: Benchmark | None) -> str:
    if benchmark is None:
        return "-"
    number = benchmark.published
    return f"{number.number:.{number.decimals}f} ({number.epochs} epochs)"
