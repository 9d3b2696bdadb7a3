"""The tables of our own runs: their list, errors, robustness, and where the seconds of an epoch go."""

import fnmatch
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import inf
from statistics import mean
from typing import Any, NamedTuple

from puzzlemix.evaluation.self_checks import attack_name
from puzzlemix.reporting.measures import ATTACKED, CORRUPTED15, CORRUPTED19, PGD20X5_EPS8, TOP1
from puzzlemix.reporting.runs import STATUSES, Row, Run, by_name, rows_of
from puzzlemix.reporting.tables import Table, spread
from puzzlemix.reporting.verdict import welch_p
from puzzlemix.runtime.errors import nearest, require, require_choice
from puzzlemix.runtime.stopwatch import PARTS
from puzzlemix.training.log import STATISTICS

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
        """The table with the rows of these labels; * stands for anything. `InputError` if there is no such row."""
        require(bool(labels), "rows must not be empty: rows=['*'] are all")
        found = set()
        for label in map(str, labels):
            fitting = fnmatch.filter(self.labelled, label)
            require(bool(fitting), f"unknown row '{label}'{nearest(label, self.labelled)}")
            found.update(fitting)
        return self._replace(rows=[row for label, row in self.labelled.items() if label in found])

    def rows_to_draw(self, most: int) -> dict[str, Row]:
        """As many rows as a figure shows, by label: the best of each method, then the best of all.

        Rows called as their method come first, in the paper's order, so that figures have like colours.
        """
        ordered = sorted(self.labelled.items(), key=lambda item: _error(item[1]))
        first_of_method: dict[str, str] = {}
        for label, row in ordered:
            first_of_method.setdefault(row.runs[0].method, label)
        chosen = list(dict.fromkeys([*first_of_method.values(), *dict(ordered)]))[:most]
        drawn = [(label, row) for label, row in self.labelled.items() if label in chosen]
        return dict(sorted(drawn, key=lambda item: _place(*item)))


def run_tables(runs: Iterable[Run]) -> list[RunTable]:
    """Runs as tables, in the order of their names."""
    by_table = defaultdict(list)
    for row in rows_of(runs):
        by_table[row.runs[0].table].append(row)
    return [RunTable(name, by_table[name]) for name in sorted(by_table)]


def _error(row: Row) -> float:
    errors = row.errors(TOP1, "median10")
    return mean(errors) if errors else inf


def _place(label: str, row: Row) -> tuple[bool, int]:
    """The place of a row in a figure: variants of a method come after all rows that are called as theirs."""
    method = row.runs[0].method
    return label != method, METHODS.index(method) if method in METHODS else len(METHODS)


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
LISTING = ("name", "seed", "table", "method", "status", "epochs", "top-1 error %", "s / epoch", "commit", "state")


def listing(runs: Sequence[Run], filters: Mapping[str, Any], sort: str, descending: bool = False) -> Table:
    """The runs that fit every filter, in the order of a column, equal ones by name and seed; what a run lacks is last.

    Args:
        runs: all.
        filters: by name of a column, the value that a run must have, or None for any; in a name * stands for anything.
        sort: one of `COLUMNS`.
        descending: the largest first.

    Raises:
        InputError: there is no such column, or no run fits a filter.
    """
    require_choice("sort", sort, COLUMNS)
    shown = sorted(runs, key=lambda run: (run.name, run.seed))
    for key, wanted in filters.items():
        there = {str(COLUMNS[key](run)) for run in runs} | set(STATUSES if key == "status" else ())
        if wanted is None or not there:
            continue
        if not any(fnmatch.fnmatchcase(value, str(wanted)) for value in there):
            require_choice(key, str(wanted), sorted(there))
        shown = [run for run in shown if fnmatch.fnmatchcase(str(COLUMNS[key](run)), str(wanted))]
    with_value = [run for run in shown if COLUMNS[sort](run) is not None]
    without = [run for run in shown if COLUMNS[sort](run) is None]
    with_value.sort(key=COLUMNS[sort], reverse=descending)
    return Table(f"{len(shown)} runs", LISTING, [_listed(run) for run in with_value + without])


def _listed(run: Run) -> tuple[str, ...]:
    *texts, error, seconds, commit = (column(run) for column in COLUMNS.values())
    numbers = ("-" if value is None else f"{value:.2f}" for value in (error, seconds))
    return (*map(str, texts), *numbers, commit or "-", run.state)


def list_of_tables(tables: Iterable[RunTable]) -> Table:
    """All tables of runs: how many rows they have, and how many of their runs are finished."""
    header = ("table", "rows", "runs", "finished")
    body = [
        (
            table.name,
            str(len(table.rows)),
            str(sum(len(row.runs) for row in table.rows)),
            str(sum(len(row.finished) for row in table.rows)),
        )
        for table in tables
    ]
    return Table("tables of our runs", header, body)


# --- errors, and what else the runs of a table have in common or not ---


def tables_of(table: RunTable, here: str | None = None) -> list[Table]:
    """The tables to show of our own runs: errors, robustness, seconds.

    Args:
        table: the runs.
        here: the commit of this code, "" without one: a note names every other commit. None: no such notes, so that the
            tables depend on the runs alone.
    """
    name, rows = table.name, table.labelled
    tables = errors_table(name, rows, here), robustness_table(name, rows), seconds_table(name, rows)
    return [table for table in tables if table is not None]


ERRORS = ("run", "seeds", "epochs", TOP1.title, "last", "best", *(m.title for m in ATTACKED), "s / epoch")
NOT_SHOWN = ("_target_", "name", "mean", "std")  # settings that the title has, or that would fill a line
NAMED = 6  # runs in a note, at most


def errors_table(name: str, rows: Mapping[str, Row], here: str | None) -> Table:
    """The errors of a table's rows; the first is `median10`, as in the paper's tables. `here`: see `tables_of`."""
    cells = []
    for label, row in rows.items():
        on = {run.metrics["evaluated_on"] for run in row.finished} - {"test"}
        cells.append(
            (
                label + "".join(f", {images} images" for images in sorted(on)),
                str(len(row.finished)),
                str(row.settings["recipe.epochs"]),
                *(spread(row.errors(TOP1, statistic)) for statistic in STATISTICS),
                *(spread(row.errors(measure), of=len(row.finished)) for measure in ATTACKED),
                spread([run.seconds["total"] for run in row.finished]),
            )
        )
    return Table(name, ERRORS, cells, _notes(rows, here))


def _notes(rows: Mapping[str, Row], here: str | None) -> list[str]:
    """What is alike in all rows, and a line on each unfinished run, other commit, machine and number of processes."""
    runs = by_name(rows)
    finished = {name: run for name, run in runs.items() if run.status == "finished"}
    notes = [f"{'all rows' if len(rows) > 1 else 'the row'}: {_alike(list(rows.values()))}", *_significance(rows)]
    notes += [f"{name}: {run.status}, {run.state}" for name, run in runs.items() if name not in finished]

    def by(key: Callable[[Run], Any]) -> list[tuple[Any, str]]:
        names = defaultdict(list)
        for name, run in finished.items():
            names[key(run)].append(name)
        return [(value, named(names[value], len(runs))) for value in sorted(names)]

    apart = "" if here is None else f", this code is {here or 'of none'}"
    commits, processes = by(lambda run: run.commit), by(lambda run: run.metrics["machine"]["processes"])
    notes += [f"{some}: of commit {other or 'unknown'}{apart}" for other, some in commits if other != (here or None)]
    notes += [f"{some}: on {machine}" for machine, some in by(lambda run: run.machine)]
    if len(processes) > 1:  # batch norm and augmentation differ
        notes += [f"{some}: of {count} process(es)" for count, some in processes]
    return notes


def _alike(rows: Sequence[Row]) -> str:
    """The settings of dataset, network and recipe that all rows have: `num_classes 20, initial_channels 16, ...`."""
    first, *others = (row.settings for row in rows)
    shown = {}
    for key, value in first.items():
        part, _, name = key.partition(".")
        is_wanted = part in ("dataset", "network", "recipe") and name not in NOT_SHOWN and value not in (None, [])
        if is_wanted and all(other.get(key) == value for other in others):
            shown[name] = value
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _significance(rows: Mapping[str, Row]) -> list[str]:
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


# --- robustness ---

AUTO_ATTACK_EPS_255 = 8


def _error_under_auto_attack(run: Run) -> float | None:
    results = run.robustness.get("auto_attack", {})
    return results.get("error") if results.get("eps_255") == AUTO_ATTACK_EPS_255 else None


ROBUSTNESS: dict[str, Callable[[Run], float | None]] = {
    "clean %": lambda run: run.robustness["top1_error"],
    "training images %": lambda run: run.robustness.get("train_error"),
    **{measure.title: partial(Run.error, measure=measure) for measure in (*ATTACKED, PGD20X5_EPS8)},
    f"AutoAttack {AUTO_ATTACK_EPS_255}/255 %": _error_under_auto_attack,
    **{measure.title: partial(Run.error, measure=measure) for measure in (CORRUPTED19, CORRUPTED15)},
    "ECE %": lambda run: run.robustness["calibration"]["ece"],
    "NLL": lambda run: run.robustness["calibration"]["nll"],
}
Evaluation = Mapping[str, Any]  # what `evaluate.py` wrote


def robustness_table(name: str, rows: Mapping[str, Row]) -> Table | None:
    """Errors of the last epochs' networks, mean and standard deviation over seeds; None where none was evaluated.

    A column of what none of them was evaluated on is left out.
    """
    evaluated = {
        label: row._replace(runs=runs)
        for label, row in rows.items()
        if (runs := [run for run in row.finished if run.robustness])
    }
    if not evaluated:
        return None
    runs = {name: run.robustness for name, run in by_name(evaluated).items()}
    cells = [_robustness_cells(label, row.runs) for label, row in evaluated.items()]
    filled = [column for column, values in enumerate(zip(*cells, strict=True)) if set(values) != {"-"}]
    header = ("run", "seeds", *ROBUSTNESS, "failed checks")
    header, *cells = (tuple(row[column] for column in filled) for row in (header, *cells))
    notes, warnings = _with_names(runs, _notes_on_evaluation), _with_names(runs, failed_checks)
    return Table(f"{name}, robustness of the last epoch", header, cells, notes, warnings)


def _robustness_cells(label: str, runs: Sequence[Run]) -> tuple[str, ...]:
    numbers = ([value for run in runs if (value := number(run)) is not None] for number in ROBUSTNESS.values())
    checks = [check for run in runs for check in run.robustness["self_checks"] if check["found"] is not None]
    failed = f"{sum(check['fired'] for check in checks)} of {len(checks)}"
    return (label, str(len(runs)), *(spread(values, of=len(runs)) for values in numbers), failed)


def _with_names(runs: Mapping[str, Evaluation], lines_on: Callable[[Evaluation], Iterable[str]]) -> list[str]:
    """Lines on the evaluations of some runs, each once, with the names of the runs that it is on."""
    names = defaultdict(list)
    for name, results in runs.items():
        for line in lines_on(results):
            names[line].append(name)
    return [f"{'all' if len(some) == len(runs) else ', '.join(some)}: {line}" for line, some in names.items()]


def _notes_on_evaluation(results: Evaluation) -> Iterator[str]:
    """What an evaluation is on, where that is not all test images or the whole released set of corruptions."""
    if auto_attack := results.get("auto_attack"):
        yield f"AutoAttack of {auto_attack['images']} test images"
    if (corruptions := results.get("corruptions")) and corruptions["missing"]:
        yield f"{corruptions['folder']} lacks {', '.join(corruptions['missing'])}"


def failed_checks(results: Evaluation) -> list[str]:
    """A line on each self-check of an evaluation that fired."""
    fired = (check for check in results["self_checks"] if check["fired"])
    return [f"self-check failed: {check['check']}: {check['found']}" for check in fired]


def summary(results: Evaluation) -> dict[str, str]:
    """One evaluation in lines: what was measured, and the number."""
    lines = {"clean": f"{results['top1_error']:.2f} %", "clean, of five answers": f"{results['top5_error']:.2f} %"}
    if "train_error" in results:
        lines["training images"] = f"{results['train_error']:.2f} %"
    for name, settings in results["attacks"].items():
        lines[attack_name(settings)] = f"{results[f'{name}_error']:.2f} %"
    if auto_attack := results.get("auto_attack"):
        after = ", ".join(f"{attack} {error:.2f}" for attack, error in auto_attack["after"].items())
        on = f"of {auto_attack['images']} images, clean {auto_attack['clean']:.2f}, after {after}"
        lines[f"AutoAttack {auto_attack['eps_255']:g}/255"] = f"{auto_attack['error']:.2f} % ({on})"
    if corruptions := results.get("corruptions"):
        for count in (19, 15):
            mean = corruptions[f"error_of_{count}"]
            lines[f"{count} corruptions"] = "-" if mean is None else f"{mean:.2f} %"
    lines["expected calibration error"] = f"{results['calibration']['ece']:.2f} %"
    lines["negative log-likelihood"] = f"{results['calibration']['nll']:.3f}"
    return lines


# --- seconds ---

SECONDS = ("run", "seeds", *PARTS, "total", "saliency and mixing, % of training", "images / s")


def seconds_table(name: str, rows: Mapping[str, Row]) -> Table | None:
    """Seconds of an epoch by part, the median over its epochs; None where no run is finished."""
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
