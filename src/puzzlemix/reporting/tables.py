"""Tables as data, and as text for a terminal, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev

from puzzlemix.runtime.errors import printable


@dataclass(frozen=True)
class Table:
    """A table of text, which may come from files: signs that cannot be printed are replaced.

    Attributes:
        title: above it.
        header: of its columns.
        rows: as many cells each as the header.
        notes: lines below it.
        warnings: likewise, of what in it is to be doubted.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default=())
    warnings: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        clean = {name: tuple(map(printable, getattr(self, name))) for name in ("header", "notes", "warnings")}
        clean |= {"title": printable(self.title), "rows": [tuple(map(printable, row)) for row in self.rows]}
        for name, value in clean.items():
            object.__setattr__(self, name, value)

    @property
    def marked_notes(self) -> list[str]:
        """Warnings, named as such, and notes."""
        return [*(f"warning: {warning}" for warning in self.warnings), *self.notes]

    def is_of_numbers(self, column: int) -> bool:
        """Whether a column is one of numbers, which stand to the right."""
        return all(row[column][:1] in "+-0123456789" for row in self.rows) if self.rows else False


def spread(values: Sequence[float], of: int | None = None) -> str:
    """`mean ± standard deviation`; of one value that value alone, of none a dash; how many where not all, `of`."""
    if not values:
        return "-"
    some = f" ({len(values)} of {of})" if of not in (None, len(values)) else ""
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "") + some


def as_markdown(tables: Sequence[Table]) -> str:
    """Each table under its title, its notes as a list."""
    parts = []
    for table in tables:
        sides = ["---:" if table.is_of_numbers(i) else "---" for i in range(len(table.header))]
        lines = [table.header, sides, *table.rows]
        grid = "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
        notes = "".join(f"- {note}\n" for note in table.marked_notes)
        parts.append(f"## {table.title}\n\n{grid}" + (f"\n{notes}" if notes else ""))
    return "\n".join(parts)


def as_csv(tables: Sequence[Table]) -> str:
    """The rows of all tables, each after its table's title, without notes; an empty line before each other header."""
    by_header: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for table in tables:
        by_header.setdefault(tuple(table.header), []).extend((table.title, *row) for row in table.rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for i, (header, rows) in enumerate(by_header.items()):
        if i > 0:
            text.write("\n")
        writer.writerows((("table", *header), *rows))
    return text.getvalue()


LATEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {sign: "\\" + sign for sign in "&%$#_{}"}


def as_latex(tables: Sequence[Table]) -> str:
    r"""Tables with booktabs' rules: needs `\usepackage{booktabs}` and nothing else."""
    parts = []
    for table in tables:
        sides = "".join("r" if table.is_of_numbers(i) else "l" for i in range(len(table.header)))
        head, *body = (" & ".join(map(latex, line)) + r" \\" for line in (table.header, *table.rows))
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex(table.title)}}}",
            rf"\begin{{tabular}}{{{sides}}}",
        ]
        lines += [r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\par\footnotesize {latex(note)}" for note in table.marked_notes] + [r"\end{table}"]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def latex(text: str) -> str:
    """Text with LaTeX's own signs escaped."""
    return "".join(LATEX.get(sign, sign) for sign in text)


FORMATS: dict[str, Callable[[Sequence[Table]], str]] = {".md": as_markdown, ".csv": as_csv, ".tex": as_latex}


def print_tables(tables: Sequence[Table]) -> None:
    """Tables in the terminal."""
    from rich import box  # here, so that reading results needs no library
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a pipe or a log has no width of its own
    for table in tables:
        shown = Grid(title=Text(table.title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        for i, title in enumerate(table.header):
            shown.add_column(Text(title), justify="right" if table.is_of_numbers(i) else "left", overflow="fold")
        for row in table.rows:
            shown.add_row(*map(Text, row))  # not markup: [ca4e01e0] would be one
        console.print(shown)
        for note in table.marked_notes:
            console.print(f"  {note}", markup=False)
