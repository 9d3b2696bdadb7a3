"""Published tables with our runs next to them: each cell has both numbers, their difference and a verdict."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from puzzlemix.reporting.measures import FGSM8, TOP1, Measure
from puzzlemix.reporting.paper import PublishedRow, PublishedSettings, PublishedTable, read_published, read_settings
from puzzlemix.reporting.run_tables import RunTable, list_of_tables, run_tables, tables_of
from puzzlemix.reporting.runs import Row, find_runs, rows_of
from puzzlemix.reporting.tables import Table, spread
from puzzlemix.reporting.verdict import P_VALUE, Verdict, compare_order, judge, significant_difference
from puzzlemix.runtime.errors import nearest, require

# The mark of each verdict, which stands after the difference in a cell, and its meaning.
MARKS = {
    "reproduced": ("=", "the 90 % interval of the difference lies within ± {margin}"),
    "better": ("<", "lower by more than {margin}, and outside the 95 % interval"),
    "not reproduced": (">", "higher by more than {margin}, and outside the 95 % interval"),
    "undecided": ("?", "neither of these"),
    "one seed only": ("1", "no interval can be computed"),
    "recipe differs": ("r", "see the notes"),
    "setting not stated": ("s", "by the source, see the notes"),
}
MARGIN = "{:g} points ({:g} under attack and on corrupted images)"


class Results(NamedTuple):
    """What there is to show."""

    published: list[tuple[PublishedTable, list["ComparedRow"]]]  # with our runs
    own: list[RunTable]  # all our runs
    problems: list[str]  # a line on each run that cannot be used


class ComparedRow(NamedTuple):
    """A published row next to the runs of its experiment."""

    published: PublishedRow
    here: Row | None  # None: there are no finished runs
    others: int  # further configs of this name, which differ from the published settings in more places
    departures: list[str]  # settings in which the runs differ from the published row, in words
    chosen: list[str]  # settings of the runs of which several values count as the published one, in words

    def errors(self, measure: Measure) -> list[float]:
        """The errors of our runs in percent, by the published statistic."""
        return self.here.errors(measure, self.published.measured_by) if self.here else []

    def verdict(self, measure: Measure) -> Verdict:
        """What our runs say about one published number of the row."""
        errors = self.errors(measure)
        if self.here is None:
            return Verdict("no run")
        if not errors:
            return Verdict("not measured")
        if self.departures:
            return Verdict("recipe differs")
        if self.published.not_stated:
            return Verdict("setting not stated")
        if len(errors) == 1:
            return Verdict("one seed only")
        return judge(errors, self.published.numbers[measure.key], self.published.runs, measure.margin)


def results_of(config: Mapping[str, Any], repository: Path) -> Results:
    """All runs and published numbers of a config of `configs/compare.yaml`; raises `InputError` on damaged numbers."""
    folder = repository / config["published"]
    experiments = {path.stem for path in (repository / "configs" / "experiment").glob("*.yaml")}
    tables, settings = read_published(folder, experiments), read_settings(folder / "settings.yaml")
    for experiment in (row.experiment for table in tables for row in table.rows if row.experiment):
        lacks = f"{folder}/settings.yaml lacks the settings of {experiment}, which a published row names"
        require(experiment in settings.experiments, f"{lacks}: add them, or leave the row's experiment empty")
    found = find_runs(Path(config["results_dir"]))
    rows = rows_of(found.runs)
    return Results(
        [(table, compare(table, rows, settings)) for table in tables], run_tables(found.runs), found.problems
    )


def tables_named(results: Results, name: str | None) -> list[Table]:
    """The tables of a name, or lists of all tables without one; raises `InputError` if there is no such table.

    The name is that of a published table, where 3 is short for table3 and sage for sage_table1, or of tables of our own
    runs, in which * stands for anything.
    """
    if name is None:
        return [overview(results.published), list_of_tables(results.own)]
    published = {table.name: (table, rows) for table, rows in results.published}
    own = [table for table in results.own if fnmatchcase(table.name, name)]
    for candidate in (name, f"table{name}", *(other for other in published if other.startswith(f"{name}_"))):
        if candidate in published:
            return [comparison_table(*published[candidate])]
    require(bool(own), f"unknown table '{name}'{nearest(name, [*published, *(table.name for table in results.own)])}")
    return [shown for table in own for shown in tables_of(table)]


def compare(table: PublishedTable, rows: Iterable[Row], settings: PublishedSettings) -> list[ComparedRow]:
    """Each row of a published table next to those of our runs that have the name of its experiment."""
    by_name = defaultdict(list)
    for row in (row for row in rows if row.finished):
        by_name[row.runs[0].name].append(row)
    return [_compare_row(row, by_name[row.experiment], settings) for row in table.rows]


def _compare_row(published: PublishedRow, rows: Sequence[Row], settings: PublishedSettings) -> ComparedRow:
    """A published row next to the runs of its experiment; of several configs the one with the fewest departures."""
    if not published.experiment or not rows:
        return ComparedRow(published, None, 0, [], [])
    ours = [{**row.settings, "processes": row.processes} for row in rows]
    departures = [settings.departures(published.experiment, each) for each in ours]
    nearest = min(range(len(rows)), key=lambda i: len(departures[i]))
    differing = [f"{key} {value}, not {theirs}" for key, (value, theirs) in departures[nearest].items()]
    chosen = [f"{key} {value}" for key, value in settings.chosen(published.experiment, ours[nearest]).items()]
    return ComparedRow(published, rows[nearest], len(rows) - 1, differing, chosen)


def comparison_table(table: PublishedTable, rows: Sequence[ComparedRow]) -> Table:
    """The published table with our numbers in it, and what there is to know about our runs below it."""
    header = ["", "n"]
    for measure in table.measures:
        header += [measure.short_title, "here", "diff"]
    body = [[row.published.label, *_cells(row, table.measures)] for row in rows]
    words = {verdict.word for _, _, verdict in verdicts(table, rows)}
    notes = [*_notes(table, rows), _order(rows), _legend(words)]
    name = table.name.replace("table", "Table ") if table.name.startswith("table") else table.name
    return Table(f"{name}: {table.title}", header, body, [note for note in notes if note])


def overview(tables: Iterable[tuple[PublishedTable, Sequence[ComparedRow]]]) -> Table:
    """All published tables: how many of their numbers have an experiment here, have runs, and are reproduced."""
    header = ("table", "what", "numbers", "with an experiment", "with runs", "reproduced")
    body = []
    for table, rows in tables:
        words = Counter(verdict.word for _, _, verdict in verdicts(table, rows))
        with_runs = words.total() - words["no run"] - words["not measured"]
        numbers = sum(len(row.numbers) for row in table.rows)
        counts = numbers, words.total(), with_runs, words["reproduced"]
        body.append((table.name, table.title, *map(str, counts)))
    return Table("published tables", header, body)


def verdicts(table: PublishedTable, rows: Iterable[ComparedRow]) -> list[tuple[ComparedRow, Measure, Verdict]]:
    """The verdict on each published number that an experiment of this repository can reproduce."""
    return [
        (row, measure, row.verdict(measure))
        for row in rows
        for measure in table.measures
        if row.published.experiment and measure.key in row.published.numbers
    ]


def _cells(row: ComparedRow, measures: Iterable[Measure]) -> list[str]:
    seeds = len(row.here.finished) if row.here else 0
    cells = [str(seeds) if seeds else ""]
    for measure in measures:
        printed, errors = row.published.numbers.get(measure.key), row.errors(measure)
        if printed and errors:
            mark, _ = MARKS[row.verdict(measure).word]
            narrow = spread(errors, of=seeds).replace(" ± ", "±")  # three measures fit into 120 columns
            cells += [printed, narrow, f"{mean(errors) - float(printed):+.2f} {mark}"]
        else:
            cells += [printed or "-", "", ""]
    return cells


def _notes(table: PublishedTable, rows: Iterable[ComparedRow]) -> list[str]:
    """A line each on what differs from the published settings, what counts as the same, and the reason of a verdict."""
    notes = []
    if not any(row.here for row in rows):
        notes.append(f"no finished runs yet: `python scripts/plan.py sweep={table.name}` says what they would cost")
    for row in (row for row in rows if row.here):
        not_stated = row.published.not_stated
        about = {"differs in": row.departures, "with": row.chosen, "the source does not state": not_stated}
        notes += [f"{row.published.label}: {what} {', '.join(words)}" for what, words in about.items() if words]
        if row.others:
            notes.append(f"{row.published.label}: {row.others} other configs of this name are not shown")
    for row, measure, verdict in verdicts(table, rows):
        if verdict.reason:
            notes.append(f"{row.published.label}, {measure.short_title}: {verdict.word}, {verdict.reason}")
    return notes


def _order(rows: Iterable[ComparedRow]) -> str:
    """A sentence on the order of the methods, or nothing if fewer than two have runs."""
    judged = [row for row in rows if TOP1.key in row.published.numbers and row.errors(TOP1) and not row.departures]
    here = {row.published.label: row.errors(TOP1) for row in judged}
    published = {row.published.label: float(row.published.numbers[TOP1.key]) for row in judged}
    order = compare_order(
        published, lambda low, high: significant_difference(here[low], here[high]), f"Welch's t-test (p < {P_VALUE:g})"
    )
    return f"order of the methods by top-1 error: {order}" if len(here) > 1 else ""


def _legend(words: Iterable[str]) -> str:
    """The meaning of the marks in a table."""
    margin = MARGIN.format(TOP1.margin, FGSM8.margin)
    shown = [
        f"{mark} {word}: {meaning.format(margin=margin)}" for word, (mark, meaning) in MARKS.items() if word in words
    ]
    return "; ".join(shown)
