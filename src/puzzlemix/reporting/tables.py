"""Tables as data, and as text for a terminal, Markdown, CSV, LaTeX and HTML."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from html import escape
from statistics import mean, stdev

from puzzlemix.runtime.errors import printable

COLUMNS = 120  # the width of text that is written to a file or a pipe


class Table:
    """A table of text, with notes below it, and warnings about what is doubtful in it.

    Its text may come from other people's files, so characters that a terminal obeys are replaced.
    """

    def __init__(
        self,
        title: str,
        header: Sequence[str],
        rows: Iterable[Sequence[str]],
        notes: Sequence[str] = (),
        warnings: Sequence[str] = (),
    ):
        self.title = printable(title)
        self.header = tuple(map(printable, header))
        self.rows = [tuple(map(printable, row)) for row in rows]
        self.notes, self.warnings = list(map(printable, notes)), list(map(printable, warnings))

    @property
    def marked_notes(self) -> list[str]:
        """The warnings, marked as such, and the notes."""
        return [*(f"warning: {warning}" for warning in self.warnings), *self.notes]

    def is_of_numbers(self, column: int) -> bool:
        """Whether a column has numbers alone, so that it is aligned to the right."""
        return bool(self.rows) and all(row[column][:1] in "+-0123456789" for row in self.rows)


def spread(values: Sequence[float], of: int | None = None) -> str:
    """`mean ± standard deviation`, one value, or a dash for none; with the count if it is not `of`."""
    if not values:
        return "-"
    some = f" ({len(values)} of {of})" if of not in (None, len(values)) else ""
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "") + some


def as_markdown(tables: Sequence[Table]) -> str:
    """Tables under their titles, notes as lists."""
    parts = []
    for table in tables:
        sides = ["---:" if table.is_of_numbers(i) else "---" for i in range(len(table.header))]
        lines = [table.header, sides, *table.rows]
        grid = "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
        notes = "".join(f"- {note}\n" for note in table.marked_notes)
        parts.append(f"## {table.title}\n\n{grid}" + (f"\n{notes}" if notes else ""))
    return "\n".join(parts)


def as_csv(tables: Sequence[Table]) -> str:
    """The rows of all tables, each after its table's title, without notes. An empty line precedes each new header."""
    by_header: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for table in tables:
        by_header.setdefault(table.header, []).extend((table.title, *row) for row in table.rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for i, (header, rows) in enumerate(by_header.items()):
        if i > 0:
            text.write("\n")
        writer.writerows((("table", *header), *rows))
    return text.getvalue()


ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
ESCAPES |= {"±": r"$\pm$", "<": "$<$", ">": "$>$", "|": "$|$"}
LATEX = str.maketrans(ESCAPES | {sign: "\\" + sign for sign in "&%$#_{}"})


def as_latex(tables: Sequence[Table]) -> str:
    r"""Tables with the rules of booktabs; a document needs `\usepackage{booktabs}`."""
    parts = []
    for table in tables:
        sides = "".join("r" if table.is_of_numbers(i) else "l" for i in range(len(table.header)))
        head, *body = (
            " & ".join(cell.translate(LATEX) for cell in line) + r" \\" for line in (table.header, *table.rows)
        )
        title, notes = table.title.translate(LATEX), [note.translate(LATEX) for note in table.marked_notes]
        lines = [r"\begin{table}", r"\centering\footnotesize\setlength{\tabcolsep}{3pt}", rf"\caption{{{title}}}"]
        lines += [rf"\begin{{tabular}}{{{sides}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
        lines += [r"\end{tabular}", *(rf"\par {note}" for note in notes), r"\end{table}"]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def as_html(tables: Sequence[Table]) -> str:
    """Tables under their titles, notes as lists, as a part of a page."""
    parts = []
    for table in tables:
        align = [' style="text-align: right"' if table.is_of_numbers(i) else "" for i in range(len(table.header))]
        head, *body = (
            "".join(f"<{tag}{side}>{escape(cell)}</{tag}>" for cell, side in zip(line, align, strict=True))
            for tag, line in (("th", table.header), *(("td", row) for row in table.rows))
        )
        rows = "\n".join(f"<tr>{row}</tr>" for row in body)
        notes = "".join(f"<li>{escape(note)}</li>" for note in table.marked_notes)
        grid = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n"
        parts.append(f"<h2>{escape(table.title)}</h2>\n{grid}" + (f"<ul>{notes}</ul>\n" if notes else ""))
    return "\n".join(parts)


FORMATS: dict[str, Callable[[Sequence[Table]], str]] = {
    ".md": as_markdown,
    ".csv": as_csv,
    ".tex": as_latex,
    ".html": as_html,
}


def print_tables(tables: Sequence[Table]) -> None:
    """Print tables to the terminal."""
    from rich import box  # here, so that reading results needs no library
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = COLUMNS  # a pipe or a log has no width of its own
    for table in tables:
        look = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0), "pad_edge": False, "show_edge": False}
        shown = Grid(title=Text(table.title), title_justify="left", title_style="bold", **look)
        for i, title in enumerate(table.header):
            shown.add_column(Text(title), justify="right" if table.is_of_numbers(i) else "left", overflow="fold")
        for row in table.rows:
            shown.add_row(*map(Text, row))  # not markup: [ca4e01e0] would be one
        console.print(shown)
        for note in table.marked_notes:
            console.print(f"  {note}", markup=False)
