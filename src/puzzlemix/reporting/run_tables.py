"""Tables of our own runs: their list, errors, robustness, and the seconds of an epoch."""

import fnmatch
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import inf
from statistics import mean
from typing import Any, NamedTuple

from puzzlemix.evaluation.results import failed_checks
from puzzlemix.reporting.measures import ATTACKED, CORRUPTED15, CORRUPTED19, PGD20X5_EPS8, TOP1
from puzzlemix.reporting.runs import STATUSES, Row, Run, rows_of
from puzzlemix.reporting.tables import Table, spread
from puzzlemix.reporting.verdict import welch_p
from puzzlemix.runtime.errors import nearest, require, require_choice
from puzzlemix.runtime.stopwatch import PARTS

METHODS = ("vanilla", "input", "manifold", "cutmix", "puzzlemix")  # in the order of the paper's tables


class RunTable(NamedTuple):
    """The runs of one table, `<dataset>_<network>` unless a name was given."""

    name: str
    rows: list[Row]

    @property
    def labelled(self) -> dict[str, Row]:
        """The rows by label, without the name of the table where that leaves no two rows of one label."""
        labels = {row.label for row in self.rows}
        short = {row.label: row.label.removeprefix(f"{self.name}_") for row in self.rows}
        return {row.label if short[row.label] in labels else short[row.label]: row for row in self.rows}

    def only(self, labels: Sequence[Any]) -> "RunTable":
        """The table with the rows of these labels, where * stands for anything; `InputError` if one fits no row."""
        require(bool(labels), "rows must not be empty: rows=['*'] are all")
        found = set()
        for label in map(str, labels):
            fitting = fnmatch.filter(self.labelled, label)
            require(bool(fitting), f"unknown row '{label}'{nearest(label, self.labelled)}")
            found.update(fitting)
        return self._replace(rows=[row for label, row in self.labelled.items() if label in found])

    def rows_to_draw(self, most: int) -> dict[str, Row]:
        """The rows of a figure, at most so many, by label: the best of each method, then the best of all.

        A row that is called as its method comes first, in the paper's order, so that it has one colour in all tables.
        """
        rows = self.labelled
        errors = {label: row.errors(TOP1, "median10") for label, row in rows.items()}
        best_first = sorted(rows, key=lambda label: mean(errors[label] or [inf]))
        best_of_method = {rows[label].runs[0].method: label for label in reversed(best_first)}
        chosen = list(dict.fromkeys([*best_of_method.values(), *best_first]))[:most]

        def place(label: str) -> tuple[bool, int, str]:
            method = rows[label].runs[0].method
            return label != method, METHODS.index(method) if method in METHODS else len(METHODS), label

        return {label: rows[label] for label in sorted(chosen, key=place)}


def run_tables(runs: Iterable[Run]) -> list[RunTable]:
    """Runs as tables, in the order of their names."""
    by_table = defaultdict(list)
    for row in rows_of(runs):
        by_table[row.runs[0].table].append(row)
    return [RunTable(name, by_table[name]) for name in sorted(by_table)]


# --- the list of all runs ---

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


def listing(runs: Sequence[Run], filters: Mapping[str, Any], sort: str, descending: bool = False) -> Table:
    """The list of all runs that fit the filters, sorted by a column, then by name and seed; runs without a value last.

    `filters` has by column the value that a run must have, where * stands for anything, or None for any value. A column
    that is not in `COLUMNS`, and a filter that no run fits, raise `InputError`.
    """
    require_choice("sort", sort, COLUMNS)
    shown = sorted(runs, key=lambda run: (run.name, run.seed))
    for key, wanted in filters.items():
        if wanted is not None and runs:
            values = {str(COLUMNS[key](run)) for run in runs} | set(STATUSES if key == "status" else ())
            fitting = fnmatch.filter(values, str(wanted))
            require(bool(fitting), f"unknown {key} '{wanted}'{nearest(wanted, sorted(values))}")
            shown = [run for run in shown if str(COLUMNS[key](run)) in fitting]
    with_value = [run for run in shown if COLUMNS[sort](run) is not None]
    without = [run for run in shown if COLUMNS[sort](run) is None]
    with_value.sort(key=COLUMNS[sort], reverse=descending)
    cells = [(*(_text(column(run)) for column in COLUMNS.values()), run.state) for run in with_value + without]
    return Table(f"{len(shown)} runs", (*COLUMNS, "state"), cells)


def _text(value: Any) -> str:
    if value in (None, ""):
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def list_of_tables(tables: Iterable[RunTable]) -> Table:
    """All tables of runs: how many rows and runs they have, and how many of the runs are finished."""
    body = []
    for table in tables:
        counts = len(table.rows), sum(len(row.runs) for row in table.rows), sum(len(row.finished) for row in table.rows)
        body.append((table.name, *map(str, counts)))
    return Table("tables of our runs", ("table", "rows", "runs", "finished"), body)


# --- errors, and notes on the runs ---

ERRORS: dict[str, Callable[[Run], float | None]] = {
    TOP1.title: partial(Run.error, measure=TOP1, statistic="median10"),  # as in the paper's tables
    "last": partial(Run.error, measure=TOP1),
    "best": partial(Run.error, measure=TOP1, statistic="best"),
    **{measure.title: partial(Run.error, measure=measure) for measure in ATTACKED},
    "s / epoch": lambda run: run.seconds["total"],
}
NOT_SHOWN = ("_target_", "name", "mean", "std")  # settings that the title has, or that would fill a line
NAMED = 6  # runs that a note names; of more it says how many


def tables_of(table: RunTable) -> list[Table]:
    """The errors of a table's rows, and the robustness and the seconds of those that have them."""
    name, rows = table.name, table.labelled
    tables = errors_table(name, rows), robustness_table(name, rows), seconds_table(name, rows)
    return [table for table in tables if table is not None]


def errors_table(name: str, rows: Mapping[str, Row]) -> Table:
    """The errors of a table's rows, and what there is to know about the runs."""
    cells = [
        (label, str(len(row.finished)), str(row.settings["recipe.epochs"]), *_means(row, ERRORS))
        for label, row in rows.items()
    ]
    notes = [f"all rows: {_alike(rows)}", *_significance(rows), *_by_line(rows, _notes_on_run)]
    return Table(name, ("run", "seeds", "epochs", *ERRORS), cells, notes)


def _means(row: Row, columns: Mapping[str, Callable[[Run], float | None]]) -> list[str]:
    """For each column the mean and standard deviation over those finished runs that have the number."""
    values = ([value for run in row.finished if (value := number(run)) is not None] for number in columns.values())
    return [spread(of_runs, of=len(row.finished)) for of_runs in values]


def _alike(rows: Mapping[str, Row]) -> str:
    """The settings of dataset, network and recipe that all rows have: `num_classes 20, initial_channels 16, ...`."""
    first, *others = (row.settings for row in rows.values())
    shown = {}
    for key, value in first.items():
        part, _, name = key.partition(".")
        is_wanted = part in ("dataset", "network", "recipe") and name not in NOT_SHOWN and value not in (None, [])
        if is_wanted and all(other.get(key) == value for other in others):
            shown[name] = value
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _significance(rows: Mapping[str, Row]) -> list[str]:
    """A line with the p-values of Puzzle Mix's error against other rows, if any have two seeds, else no line."""
    errors = {label: row.errors(TOP1, "median10") for label, row in rows.items()}
    ours = errors.pop("puzzlemix", [])
    p_values = {label: welch_p(ours, theirs) for label, theirs in errors.items()}
    shown = ", ".join(f"{label} {p:.3f}" for label, p in p_values.items() if p is not None)
    return [f"p-values of Welch's t-test on the top-1 error, puzzlemix against: {shown}"] if shown else []


def _by_line(rows: Mapping[str, Row], lines_on: Callable[[Run], Iterable[str]]) -> list[str]:
    """Lines on runs, each once and after the names of its runs."""
    names, count = defaultdict(list), sum(len(row.runs) for row in rows.values())
    for label, row in rows.items():
        for run in row.runs:
            for line in lines_on(run):
                names[line].append(f"{label} seed {run.seed}")
    notes = []
    for line, some in sorted(names.items()):
        shown = ", ".join(some) if len(some) <= NAMED else f"{len(some)} of {count} runs"
        notes.append(f"{'all' if len(some) == count else shown}: {line}")
    return notes


def _notes_on_run(run: Run) -> list[str]:
    if not run.metrics:
        return [f"{run.status}, {run.state}"]
    on = run.metrics["evaluated_on"]
    notes = [f"of commit {run.commit or 'unknown'}", f"on {run.machine}"]
    return notes if on == "test" else [*notes, f"errors on {on} images"]


# --- robustness ---


def _error_under_auto_attack(run: Run) -> float | None:
    results = run.robustness.get("auto_attack", {})
    return results["error"] if results.get("eps_255") == 8 else None


ROBUSTNESS: dict[str, Callable[[Run], float | None]] = {
    "clean %": lambda run: run.robustness["top1_error"],
    "training images %": lambda run: run.robustness.get("train_error"),
    **{measure.title: partial(Run.error, measure=measure) for measure in (*ATTACKED, PGD20X5_EPS8)},
    "AutoAttack 8/255 %": _error_under_auto_attack,
    **{measure.title: partial(Run.error, measure=measure) for measure in (CORRUPTED19, CORRUPTED15)},
    "ECE %": lambda run: run.robustness["calibration"]["ece"],
    "NLL": lambda run: run.robustness["calibration"]["nll"],
}


def robustness_table(name: str, rows: Mapping[str, Row]) -> Table | None:
    """Errors of the last epochs' networks, without the columns that no run has; None if no run was evaluated."""
    evaluated = {}
    for label, row in rows.items():
        if runs := [run for run in row.finished if run.robustness]:
            evaluated[label] = row._replace(runs=runs)
    cells = [(label, str(len(row.runs)), *_means(row, ROBUSTNESS), _checks(row)) for label, row in evaluated.items()]
    filled = [place for place, values in enumerate(zip(*cells, strict=True)) if set(values) != {"-"}]
    titles = "run", "seeds", *ROBUSTNESS, "failed checks"
    header, *cells = ([line[place] for place in filled] for line in (titles, *cells))
    notes = _by_line(evaluated, _notes_on_evaluation)
    warnings = _by_line(evaluated, lambda run: failed_checks(run.robustness))
    return Table(f"{name}, robustness of the last epoch", header, cells, notes, warnings) if cells else None


def _checks(row: Row) -> str:
    """How many self-checks failed, of those for which there were errors to compare."""
    checks = [check for run in row.runs for check in run.robustness["self_checks"] if check["found"] is not None]
    return f"{sum(check['fired'] for check in checks)} of {len(checks)}"


def _notes_on_evaluation(run: Run) -> list[str]:
    """What an evaluation lacks of all test images and of the whole released set of corruptions."""
    notes = []
    if auto_attack := run.robustness.get("auto_attack"):
        notes.append(f"AutoAttack of {auto_attack['images']} test images")
    if (corruptions := run.robustness.get("corruptions")) and corruptions["missing"]:
        notes.append(f"{corruptions['folder']} lacks {', '.join(corruptions['missing'])}")
    return notes


# --- seconds ---

SECONDS = ("run", "seeds", *PARTS, "total", "saliency and mixing, % of training", "images / s")


def seconds_table(name: str, rows: Mapping[str, Row]) -> Table | None:
    """Seconds of an epoch by part, the median over its epochs; None if no run is finished."""
    cells = [_seconds_cells(label, row) for label, row in rows.items() if row.finished]
    return Table(f"{name}, seconds of an epoch", SECONDS, cells) if cells else None


def _seconds_cells(label: str, row: Row) -> tuple[str, ...]:
    seconds = row.seconds
    training_s = seconds["total"] - seconds["evaluation"]
    mixing_s = seconds["saliency"] + seconds["mixing"]
    images = next((images for run in row.finished for images in run.logged("images").values()), 0)  # of an epoch
    return (
        label,
        str(len(row.finished)),
        *(f"{seconds[part]:.2f}" for part in (*PARTS, "total")),
        f"{100 * mixing_s / training_s:.1f}" if training_s else "-",
        f"{images / training_s:.0f}" if training_s and images else "-",
    )
