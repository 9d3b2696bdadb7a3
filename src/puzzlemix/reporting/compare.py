"""Rows of runs compared with published numbers: the authors', with a verdict each, and independent benchmarks'."""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from operator import itemgetter
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from puzzlemix.reporting.measures import MEASURES, TOP1, Measure
from puzzlemix.reporting.paper import (
    DATASETS,
    METHODS,
    NETWORKS,
    NOT_STATED,
    ExperimentFile,
    Published,
    experiment_files,
    read_benchmarks,
    read_published,
)
from puzzlemix.reporting.run_tables import errors_table, robustness_table, seconds_table
from puzzlemix.reporting.runs import Row, find_runs, rows_of
from puzzlemix.reporting.tables import Table, spread
from puzzlemix.reporting.verdict import Verdict, judge
from puzzlemix.runtime.errors import nearest, require, require_number
from puzzlemix.training.settings import differences

VARIANTS = {"mixup.alpha": r"\balpha (\d+\.?\d*)", "mixup.prob": r"\bp=(\d+\.?\d*)"}  # as benchmarks print them
NEAR = {"PreActResNet-18": "ResNet-18"}  # a benchmark's network that may stand next to ours; a note says so
LINES_HEADER = ("run", "metric", "seeds", "here", "published", "difference", "verdict", "source")


class Line(NamedTuple):
    """A measure of a row next to a published number."""

    label: str  # of the row
    measure: Measure
    here: list[float]  # a value for each seed; empty: there is no run
    published: Published | None  # None: no number is available
    verdict: Verdict


class Benchmark(NamedTuple):
    """An independent benchmark's number next to a row."""

    published: Published  # the number of the benchmark nearest to our setting
    differences: list[str]  # what is known to differ, as `key theirs (here ours)`


class TableResults(NamedTuple):
    """All that is known of one table."""

    name: str  # <dataset>_<network>
    rows: list[Row]
    lines: list[Line]  # empty where the table is none of the paper's
    benchmarks: dict[str, dict[str, Benchmark]]  # by the label of a row or the name of an experiment, and by title

    @property
    def short_rows(self) -> dict[str, Row]:
        """The rows, by their labels as `short` has them."""
        return {self.short(row.label): row for row in self.rows}

    def short(self, label: str) -> str:
        """A row's label without the name of its table, unless another row is called that."""
        short = label.removeprefix(f"{self.name}_")
        return label if any(row.label == short for row in self.rows) else short

    def only(self, labels: Sequence[Any]) -> TableResults:
        """The table with the rows of these labels; * stands for anything. `InputError` if there is no such row."""
        require(bool(labels), "rows must not be empty: rows=['*'] are all")
        rows, found = self.short_rows, set()
        for label in map(str, labels):
            fitting = fnmatch.filter(rows, label)
            require(bool(fitting), f"unknown row '{label}'{nearest(label, rows)}")
            found.update(fitting)
        return self._replace(rows=[row for label, row in rows.items() if label in found])

    def rows_to_draw(self, most: int) -> dict[str, Row]:
        """As many rows as a figure shows, by label: the best of each method, then the best of all.

        Rows called as their method come first, the paper's in their order, so that tables of these have like colours.
        """
        ordered = sorted(self.short_rows.items(), key=lambda item: _error(item[1]))
        first_of_method: dict[str, str] = {}
        for label, row in ordered:
            first_of_method.setdefault(row.runs[0].method, label)
        chosen = list(dict.fromkeys([*first_of_method.values(), *dict(ordered)]))[:most]
        drawn = [(label, row) for label, row in self.short_rows.items() if label in chosen]
        return dict(sorted(drawn, key=lambda item: _place(*item)))


class Results(NamedTuple):
    """Every table that was asked for, and a line on each run that cannot be shown."""

    tables: list[TableResults]
    problems: list[str]


def results_of(config: Mapping[str, Any], repository: Path) -> Results:
    """All runs and all published numbers that a config of `configs/compare.yaml` asks for, joined.

    Raises:
        InputError: a folder or its content cannot be read, or there is no such table.
    """
    table, published_dir = config["table"], repository / config["published"]
    require_number("tolerance", config["tolerance"])
    experiments = experiment_files(repository / "configs" / "experiment")
    found, published = find_runs(Path(config["results_dir"])), read_published(published_dir, experiments)
    benchmarks = read_benchmarks(published_dir / "benchmarks.yaml")
    by_table = defaultdict(list)
    for row in rows_of(found.runs):
        by_table[row.runs[0].table].append(row)
    known = {*by_table, *(experiment.table for experiment in experiments)}
    require(table is None or table in known, f"unknown table '{table}'{nearest(str(table), known)}")

    tables = []
    for name in (sorted(by_table) or sorted(known)) if table is None else [table]:
        rows, lines, experiments_run = by_table[name], [], []
        own = {row.label: (row.settings, row.runs[0].config["choices"]) for row in rows}
        of_table = {experiment.name: experiment for experiment in experiments if experiment.table == name}
        for row in rows if of_table else ():
            run = row.runs[0]
            experiment = of_table.get(run.name, of_table.get(f"{name}_{run.method}"))
            lines += compare_row(row, experiment, published, config["tolerance"])
            experiments_run.append(experiment)
        for experiment in of_table.values():
            if experiment not in experiments_run:
                lines += compare_row(None, experiment, published, config["tolerance"])
                own[experiment.name] = experiment.settings(), experiment.choices
        independent = {label: benchmarks_of(*setting, published, benchmarks) for label, setting in own.items()}
        tables.append(TableResults(name, rows, lines, independent))
    return Results(tables, found.problems)


def compare_row(
    row: Row | None, experiment: ExperimentFile | None, published: Iterable[Published], tolerance: float
) -> list[Line]:
    """A row against every comparable number of its experiment; one line without a number where there is none.

    Args:
        row: of runs; None: nobody has run the experiment here.
        experiment: whose setting the published numbers have; None: the row is of none.
        published: all numbers.
        tolerance: in percentage points, see `judge`.
    """
    label, lines = row.label if row else experiment.name, []
    for number in comparable(published, experiment) or [None]:
        measure = number.measure if number else TOP1
        statistic = "median10" if number is None or number.measured_by == NOT_STATED else number.measured_by
        errors = row.errors(measure, statistic) if row else []
        if row is None or not row.finished:
            verdict = Verdict("no run")
        elif number is None:
            verdict = Verdict("not available")
        elif not errors:
            verdict = Verdict("not measured")
        else:
            verdict = judge(errors, number, departures(row, experiment, number), tolerance)
        lines.append(Line(label, measure, errors, number, verdict))
    return lines


def departures(row: Row, experiment: ExperimentFile, number: Published) -> list[str]:
    """Settings of a row that the published number has not, as `recipe.epochs 40, not 1200`: ours, then theirs."""
    found = differences(experiment.settings(), row.settings)
    ours = row.settings["recipe.epochs"]
    if number.epochs and int(number.epochs) != ours:  # whatever the experiment's file says
        found["recipe.epochs"] = (int(number.epochs), ours)
    return [f"{key} {ours}, not {theirs}" for key, (theirs, ours) in found.items()]


def comparable(published: Iterable[Published], experiment: ExperimentFile | None) -> list[Published]:
    """The numbers of an experiment that runs measure, by a statistic that they have; each once, if printed twice."""
    found = {}
    for number in published:
        if experiment and number.experiment == experiment.name and number.measure and number.measured_by:
            found.setdefault((number.measure.key, number.value, number.measured_by), number)
    return sorted(found.values(), key=lambda number: MEASURES.index(number.measure))


def benchmarks_of(
    settings: Mapping[str, Any],
    choices: Mapping[str, str],
    published: Iterable[Published],
    benchmarks: Mapping[tuple[str, str], Mapping[str, Any]],
) -> dict[str, Benchmark]:
    """For each benchmark that has this dataset and method on a near network, by title, the number nearest to a setting.

    Only top-1 errors by the median of the last epochs count: other statistics are not the paper's.

    Args:
        settings: of a run or an experiment, flat.
        choices: its options of `network` and `mixup`.
        published: all numbers.
        benchmarks: all of them.
    """
    network = NETWORKS.get(choices["network"], choices["network"])
    schedule = "phases" if settings["recipe.phases"] else settings["recipe.schedule"]
    padding = settings.get("dataset.crop_padding")  # which images in folders have not
    crop = "of random size" if padding is None else f"into {padding} zeros"
    ours = {**settings, "network": network, "schedule": schedule, "crop": crop}
    dataset, method = DATASETS.get(settings["dataset.name"]), METHODS.get(choices["mixup"])
    candidates: dict[str, list[tuple[tuple[int, int], Benchmark]]] = defaultdict(list)
    for number in published:
        benchmark = benchmarks.get((number.source_id, number.dataset))
        is_near = number.network in (network, NEAR.get(network)) and "RSB" not in number.variant  # another recipe
        same_kind = number.measure is TOP1 and number.statistic.startswith("median of last") and number.epochs
        if benchmark is None or (number.dataset, number.method) != (dataset, method) or not (is_near and same_kind):
            continue
        theirs = {**benchmark["settings"], "network": number.network, "recipe.epochs": int(number.epochs)}
        for key, pattern in VARIANTS.items():
            if printed := re.search(pattern, number.variant):
                theirs[key] = float(printed[1])
        found = {key: value for key, value in theirs.items() if key in ours and value != ours[key]}
        words = [f"{key} {value} (here {ours[key]})" for key, value in found.items()]
        distance = abs(theirs["recipe.epochs"] - ours["recipe.epochs"]), len(found)
        candidates[benchmark["title"]].append((distance, Benchmark(number, words)))
    return {title: min(of_title, key=itemgetter(0))[1] for title, of_title in candidates.items()}


def as_tables(results: Iterable[TableResults], here: str | None = None) -> list[Table]:
    """The tables to show. With `here`, the commit of this code or "" without one, a note names each other commit.

    Without it the tables depend on the runs alone.
    """
    tables = []
    for result in results:
        name, rows = result.name, result.short_rows
        if rows:
            of_runs = errors_table(name, rows, here), robustness_table(name, rows), seconds_table(name, rows)
            tables += [table for table in of_runs if table is not None]
        if result.lines:
            tables.append(comparison_table(result))
    return tables


def comparison_table(result: TableResults) -> Table:
    """A table's lines next to the authors' numbers, with a column for each independent benchmark."""
    titles = sorted({title for of_label in result.benchmarks.values() for title in of_label})
    rows, labels = [], defaultdict(list)
    for line in result.lines:
        of_label = result.benchmarks.get(line.label, {}) if line.measure is TOP1 else {}
        numbers = [of_label[title].published if title in of_label else None for title in titles]
        cells = (f"{number.shown} ({number.epochs} epochs)" if number else "-" for number in numbers)
        rows.append((*_cells(line, result.short(line.label)), *cells))
    for label, of_label in result.benchmarks.items():
        for title, benchmark in of_label.items():
            labels[title, ", ".join(benchmark.differences) or "nothing known"].append(result.short(label))
    found = sorted(labels.items())
    notes = [f"{title} beside {', '.join(names)}: differs in {words}" for (title, words), names in found]
    return Table(f"{result.name}, beside published numbers", (*LINES_HEADER, *titles), rows, notes)


def _cells(line: Line, label: str) -> tuple[str, ...]:
    here, number = line.here, line.published
    return (
        label,
        line.measure.title,
        str(len(here)),
        spread(here),
        number.shown if number else "not available",
        f"{mean(here) - number.number:+.2f}" if here and number else "-",
        str(line.verdict),
        number.origin if number else "-",
    )


def _place(label: str, row: Row) -> tuple[bool, int]:
    """The place of a row in a figure: variants of a method after all rows that are called as theirs."""
    method, order = row.runs[0].method, list(METHODS)
    return label != method, order.index(method) if method in order else len(order)


def _error(row: Row) -> float:
    errors = row.errors(TOP1, "median10")
    return mean(errors) if errors else inf
