"""Figures of the page, as SVG with the page's font and text colour, and curves as PNG. Needs matplotlib."""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from puzzlemix.reporting.pictures import save_picture
from puzzlemix.reporting.runs import Row

TEXT = "#010203"  # stands for the page's text colour
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#ee7733", "#009988", "#8c6d31")
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names may hold dollars
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), TEXT),
}

Lines = Mapping[str, Mapping[float, Sequence[float]]]  # the values of several seeds, by row, by x
Dots = Mapping[str, Mapping[str, Sequence[float]]]  # likewise, by test, by row


class PageFigure(NamedTuple):
    """A figure of the page."""

    content: str  # HTML
    caption: str


class Curve(NamedTuple):
    """A quantity at each epoch, of several seeds."""

    label: str
    colour: str
    epochs: np.ndarray  # (E,)
    values: np.ndarray  # (seeds, E)


def curves_of(rows: Mapping[str, Row], key: str) -> list[Curve]:
    """A number of the logs, of each row that has it: of its finished runs, or without these as far as all have come."""
    curves = []
    for (label, row), colour in zip(rows.items(), COLOURS, strict=False):
        logs = [logged for run in row.finished or row.runs if (logged := run.logged(key))]
        epochs = sorted(set.intersection(*map(set, logs))) if logs else []
        if epochs:
            values = [[log[epoch] for epoch in epochs] for log in logs]
            curves.append(Curve(label, colour, np.array(epochs), np.array(values, float)))
    return curves


@mpl.rc_context(STYLE)
def draw_curves(curves: Sequence[Curve], ylabel: str) -> str:
    """Curves over epochs as SVG."""
    return _svg(*_curves(curves, ylabel))


@mpl.rc_context(STYLE)
def save_curves(path: Path, curves: Sequence[Curve], ylabel: str, title: str) -> None:
    """Write curves as a PNG with a title; raises `RunError` if it cannot be written."""
    figure, ax = _curves(curves, ylabel, height=4.2)
    ax.set_title(title, loc="left", fontsize=9)
    _add_legend(figure, ax)
    save_picture(figure, path)


def _curves(curves: Sequence[Curve], ylabel: str, height: float = 3.2) -> tuple[Figure, Axes]:
    """The mean over seeds, and a band from the least to the largest.

    The first tenth of the epochs may leave the axis at the top, since the curves would else lie on each other.
    """
    figure, ax = _axes("epoch", ylabel, height)
    for curve in curves:
        ax.plot(curve.epochs, curve.values.mean(0), color=curve.colour, label=curve.label, linewidth=1.5)
        if len(curve.values) > 1:
            band = curve.values.min(0), curve.values.max(0)
            ax.fill_between(curve.epochs, *band, color=curve.colour, alpha=0.2, linewidth=0)
    later = max(curve.values[:, len(curve.epochs) // 10 :].max() for curve in curves)
    if later < ax.dataLim.ymax:
        ax.set_ylim(top=later)
    return figure, ax


@mpl.rc_context(STYLE)
def draw_lines(lines: Lines, xlabel: str, ylabel: str, with_diagonal: bool = False) -> str:
    """Percentages against a number, a line with spans for each row that has any; perhaps with the dashed line y = x."""
    figure, ax = _axes(xlabel, ylabel)
    if with_diagonal:
        ax.plot([0, 100], [0, 100], color=TEXT, linestyle="--", linewidth=1)
    for (label, by_x), colour in zip(lines.items(), COLOURS, strict=False):
        if by_x:
            x = sorted(by_x)
            y, spans = zip(*(_mean_and_span(by_x[place]) for place in x), strict=True)
            ax.errorbar(x, y, spans, color=colour, label=label, marker="o", markersize=3)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylim(-2, 102)
    return _svg(figure, ax)


@mpl.rc_context(STYLE)
def draw_dots(dots: Dots, labels: Iterable[str]) -> str:
    """Errors in several tests, a line of dots for each test with a dot for each row."""
    figure, ax = _axes("error, %", "", height=1.5 + 0.28 * len(dots))
    for label, colour in zip(labels, COLOURS, strict=False):
        by_place = {place: of_row[label] for place, of_row in enumerate(dots.values()) if of_row.get(label)}
        if by_place:
            y = list(by_place)
            x, spans = zip(*map(_mean_and_span, by_place.values()), strict=True)
            ax.errorbar(x, y, xerr=spans, color=colour, label=label, linestyle="none", marker="o", markersize=4)
    ax.set_yticks(range(len(dots)), list(dots))
    ax.invert_yaxis()
    return _svg(figure, ax)


def _axes(xlabel: str, ylabel: str, height: float = 3.2) -> tuple[Figure, Axes]:
    """An empty figure of the page's width, its height in inches."""
    figure = Figure(figsize=(6.4, height), layout="constrained")
    ax = figure.subplots()
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    return figure, ax


def _svg(figure: Figure, ax: Axes) -> str:
    """The figure as SVG, without the ids of its groups, which other figures of the page have as well."""
    _add_legend(figure, ax)
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True)
    before, _, drawing = text.getvalue().partition("<metadata>")
    svg = before[before.index("<svg") :] + drawing.partition("</metadata>")[2]
    described = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(ax.get_ylabel() or ax.get_xlabel())}" ', 1)
    return re.sub(r'<g id="[^"]*"', "<g", described).replace(TEXT, "currentColor")


def _add_legend(figure: Figure, ax: Axes) -> None:
    if ax.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)


def _mean_and_span(errors: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation, which is 0 for one value."""
    return mean(errors), stdev(errors) if len(errors) > 1 else 0.0
