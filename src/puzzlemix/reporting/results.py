"""What the comparison shows of each table: its runs, and where there are published numbers, both side by side."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from puzzlemix.errors import nearest, require
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
from puzzlemix.reporting.experiments import ExperimentFile
from puzzlemix.reporting.published import read_published
from puzzlemix.reporting.runs import Row, Run, find_runs, rows_of, short_commit
from puzzlemix.reporting.tables import Table, spread

# What the columns of attacks hold: a run attacked otherwise under the same name does not belong there.
ATTACKS = {
    "fgsm8": {"eps_255": 8, "step_255": 8, "steps": 1, "random_start": False},
    "pgd20_eps4": {"eps_255": 4, "step_255": 2, "steps": 20, "random_start": True},
}
RUNS_HEADER = ("run", "seeds", "epochs", "top-1 error %", "last", "best", "FGSM 8/255 %", "PGD-20 4/255 %", "s / epoch")
LINES_HEADER = ("run", "metric", "seeds", "here", "published", "difference", "verdict", "source")
METRIC_WORDS = {"top1_error": "top-1 error %", "top5_error": "top-5 error %", "fgsm8_error": "FGSM 8/255 %"}
METRIC_WORDS |= {"pgd7_eps4_error": "PGD-7 4/255 %", "pgd7_eps8_error": "PGD-7 8/255 %"}


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


class Results(NamedTuple):
    """Every table that was asked for, and a line on each run that cannot be shown."""

    tables: list[TableResults]
    problems: list[str]


def read_results(
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
    found, published = find_runs(results_dir), read_published(published_dir)
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


def as_tables(results: Iterable[TableResults], commit: str | None) -> list[Table]:
    """The tables to show; `commit` is that of this code, of which runs of others are told apart."""
    tables = []
    for result in results:
        if result.rows:
            notes = notes_on([run for row in result.rows for run in row.runs], commit)
            tables.append(Table(result.name, RUNS_HEADER, [run_cells(row) for row in result.rows], notes))
        if result.lines:
            tables.append(beside_published(result))
    return tables


def run_cells(row: Row) -> tuple[str, ...]:
    """A row as `RUNS_HEADER` says; the first error is `median10`, as in the paper's tables."""
    on = {run.metrics["evaluated_on"] for run in row.finished} - {"test"}
    label = short_label(row.label, row.runs[0].table) + "".join(f", {images} images" for images in sorted(on))
    return (
        label,
        str(len(row.finished)),
        str(row.settings["recipe.epochs"]),
        *(spread(row.values("top1_error", statistic)) for statistic in ("median10", "last", "best")),
        *(spread(attacked(row, attack)) for attack in ATTACKS),
        spread([run.metrics["seconds_per_epoch"]["total"] for run in row.finished]),
    )


def attacked(row: Row, attack: str) -> list[float]:
    """Errors of the runs that met this attack with the settings of its column."""
    return [
        run.metrics[f"{attack}_error"]
        for run in row.finished
        if run.metrics.get("attacks", {}).get(attack) == ATTACKS[attack]
    ]


def notes_on(runs: Sequence[Run], commit: str | None) -> list[str]:
    """A line on each run that is not finished, and one on each other commit that runs are of."""
    notes = [f"{run.name} seed {run.seed}: {run.status}, {run.state}" for run in runs if run.status != "finished"]
    commits = Counter(run.commit for run in runs if run.status == "finished")
    here = short_commit(commit)
    for other in sorted(set(commits) - {here}):
        notes.append(f"{commits[other]} of {len(runs)} runs: of commit {other or 'unknown'}, this code is {here}")
    return notes


def beside_published(result: TableResults) -> Table:
    """A table's lines beside the authors' numbers, with a column for each independent benchmark."""
    titles = sorted({title for beside in result.benchmarks.values() for title in beside})
    rows = []
    for line in result.lines:
        beside = result.benchmarks.get(line.label, {}) if line.metric == "top1_error" else {}
        rows.append((*_line_cells(line, result.name), *(_with_epochs(beside.get(title)) for title in titles)))
    return Table(f"{result.name}, beside published numbers", (*LINES_HEADER, *titles), rows, _on_benchmarks(result))


def _on_benchmarks(result: TableResults) -> list[str]:
    """A line for each benchmark and setting in which it differs, with the rows that it is beside."""
    labels = defaultdict(list)
    for label, beside in result.benchmarks.items():
        for title, benchmark in beside.items():
            labels[title, ", ".join(benchmark.differences) or "nothing known"].append(short_label(label, result.name))
    return [
        f"{title} beside {', '.join(found)}: differs in {words}" for (title, words), found in sorted(labels.items())
    ]


def short_label(label: str, table: str) -> str:
    """A row's label without the name of the table that it stands in."""
    return label.removeprefix(f"{table}_")


def _line_cells(line: Line, table: str) -> tuple[str, ...]:
    apart, number = difference(line), line.published
    return (
        short_label(line.label, table),
        METRIC_WORDS[line.metric],
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
