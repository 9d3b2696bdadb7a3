"""The page's figures, as SVG that takes the page's font and text colour; curves also as PNG. Needs matplotlib."""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from puzzlemix.reporting.pictures import save_picture
from puzzlemix.reporting.runs import Row
from puzzlemix.runtime.stopwatch import PARTS

TEXT = "#010203"  # stands for the page's text colour
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#ee7733", "#009988", "#8c6d31")
POINTS = 200  # of a curve; more are not seen
WIDE = 10  # largest by least number, from which an axis is logarithmic
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

Lines = Mapping[str, Mapping[float, Sequence[float]]]  # by row, by x, the values of several seeds
Dots = Mapping[str, Mapping[str, Sequence[float]]]  # by what is measured, by row, likewise


class PageFigure(NamedTuple):
    """A figure as HTML, and what is below it."""

    content: str
    caption: str


class Curve(NamedTuple):
    """A quantity at each epoch, of several seeds: epochs (E,), values (seeds, E)."""

    label: str
    colour: str
    epochs: np.ndarray
    values: np.ndarray


def curves_of(rows: Mapping[str, Row], key: str) -> list[Curve]:
    """A number of the logs for each row that has it: of its finished runs; without these, as far as all have come."""
    curves = []
    for (label, row), colour in zip(rows.items(), COLOURS, strict=False):
        logs = [logged for run in row.finished or row.runs if (logged := run.logged(key))]
        shared = sorted(set.intersection(*map(set, logs))) if logs else []
        if shared:
            places = np.unique(np.linspace(0, len(shared) - 1, min(len(shared), POINTS)).round().astype(int))
            epochs = np.array(shared)[places]
            values = np.array([[log[epoch] for epoch in epochs] for log in logs], float)
            curves.append(Curve(label, colour, epochs, values))
    return curves


@mpl.rc_context(STYLE)
def draw_curves(curves: Sequence[Curve], ylabel: str) -> str:
    """Curves over epochs, for the page."""
    return _svg(*_curves(curves, ylabel))


@mpl.rc_context(STYLE)
def save_curves(path: Path, curves: Sequence[Curve], ylabel: str, title: str) -> None:
    """Curves as a PNG with a title; `RunError` if it cannot be written."""
    figure, ax = _curves(curves, ylabel, height=4.2)
    ax.set_title(title, loc="left", fontsize=9)
    _add_legend(figure, ax)
    save_picture(figure, path)


def _curves(curves: Sequence[Curve], ylabel: str, height: float = 3.2) -> tuple[Figure, Axes]:
    """Mean over seeds, with the span from the least to the largest as a band; a wide span on a logarithmic axis.

    The first tenth of the epochs may leave the axis at the top: else the last curves would lie on each other.
    """
    figure, ax = _axes("epoch", ylabel, height)
    for curve in curves:
        ax.plot(curve.epochs, curve.values.mean(0), color=curve.colour, label=curve.label, linewidth=1.5)
        if len(curve.values) > 1:
            band = curve.values.min(0), curve.values.max(0)
            ax.fill_between(curve.epochs, *band, color=curve.colour, alpha=0.2, linewidth=0)
    means = np.concatenate([curve.values.mean(0) for curve in curves])
    if means.min() > 0 and means.max() > WIDE * means.min():
        ax.set_yscale("log")
        _label_in_numbers(ax.yaxis)
    later = np.concatenate([curve.values[:, len(curve.epochs) // 10 :].ravel() for curve in curves])
    if later.max() < means.max():
        ax.set_ylim(top=later.max())
    return figure, ax


@mpl.rc_context(STYLE)
def draw_seconds(rows: Mapping[str, Row]) -> str:
    """Seconds of an epoch by part, a stacked bar for each row; all rows have finished runs."""
    seconds = {label: row.seconds for label, row in rows.items()}
    figure, ax = _axes("seconds an epoch, mean over seeds", "", height=1.2 + 0.35 * len(seconds))
    left = np.zeros(len(seconds))
    for part, colour in zip(PARTS, COLOURS, strict=False):
        widths = np.array([of_row[part] for of_row in seconds.values()])
        ax.barh(list(seconds), widths, left=left, color=colour, label=part)
        left += widths
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    return _svg(figure, ax)


@mpl.rc_context(STYLE)
def draw_ablation(key: str, points: Sequence[tuple[Any, Sequence[float]]]) -> str:
    """Error against a setting, numbers in their order or names side by side, with errors of several seeds."""
    values = [value for value, _ in points]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    x = values if numeric else range(len(values))
    figure, ax = _axes(key, "top-1 error, %")
    y, spans = zip(*(_mean_and_span(errors) for _, errors in points), strict=True)
    ax.errorbar(x, y, spans, color=COLOURS[0], marker="o", linestyle="-" if numeric else "none", capsize=3)
    if numeric and min(values) > 0 and max(values) > WIDE * min(values):
        ax.set_xscale("log")
        _label_in_numbers(ax.xaxis)
    if not numeric:
        ax.set_xticks(list(x), [str(value) for value in values])
        ax.margins(x=0.2)
    return _svg(figure, ax)


@mpl.rc_context(STYLE)
def draw_lines(curves: Lines, xlabel: str, ylabel: str, top: float | None = None) -> str:
    """A line for each row, with spans; the y axis from 0 to `top`, where that is given."""
    figure, ax = _axes(xlabel, ylabel)
    for (label, by_x), colour in zip(curves.items(), COLOURS, strict=False):
        if len(by_x) > 1:
            x = sorted(by_x)
            y, spans = zip(*(_mean_and_span(by_x[place]) for place in x), strict=True)
            ax.errorbar(x, y, spans, color=colour, label=label, capsize=2, marker="o", markersize=3)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if top is not None:
        ax.set_ylim(0, top)
    return _svg(figure, ax)


@mpl.rc_context(STYLE)
def draw_dots(dots: Dots, labels: Iterable[str], xlabel: str) -> str:
    """A line of dots for each thing that is measured, a dot for each row."""
    figure, ax = _axes(xlabel, "", height=1.5 + 0.28 * len(dots))
    for label, colour in zip(labels, COLOURS, strict=False):
        found = [(place, of_row[label]) for place, of_row in enumerate(dots.values()) if of_row.get(label)]
        if found:
            x, spans = zip(*(_mean_and_span(values) for _, values in found), strict=True)
            y = [place for place, _ in found]
            ax.errorbar(x, y, xerr=spans, color=colour, label=label, linestyle="none", marker="o", markersize=4)
    ax.set_yticks(range(len(dots)), list(dots))
    ax.invert_yaxis()
    return _svg(figure, ax)


@mpl.rc_context(STYLE)
def draw_reliability(points: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Accuracy against confidence, a line for each row, and dashed the line on which both are equal."""
    figure, ax = _axes("confidence, %", "accuracy, %")
    ax.plot([0, 100], [0, 100], color=TEXT, linestyle="--", linewidth=1)
    for (label, of_row), colour in zip(points.items(), COLOURS, strict=False):
        if of_row:
            ax.plot(*zip(*of_row, strict=True), color=colour, label=label, marker="o", markersize=3)
    ax.set_ylim(-2, 102)
    return _svg(figure, ax)


def _axes(xlabel: str, ylabel: str, height: float = 3.2) -> tuple[Figure, Axes]:
    """An empty figure of the page's width, its height in inches."""
    figure = Figure(figsize=(6.4, height), layout="constrained")
    ax = figure.subplots()
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    return figure, ax


def _svg(figure: Figure, ax: Axes) -> str:
    """An SVG to stand in a page with others: without ids of its own groups, which would be those of the others too."""
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


def _label_in_numbers(axis: Axis) -> None:
    """Ticks of a logarithmic axis at 1, 2, 5, 10, ... as they are: 0.05, not 5e-2."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _mean_and_span(errors: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation; of one value 0."""
    return mean(errors), stdev(errors) if len(errors) > 1 else 0.0
