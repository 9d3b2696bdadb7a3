"""The report's figures, as SVG that takes the page's font and text colour; curves also as PNG. Needs matplotlib."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from puzzlemix.reporting.pictures import save_picture
from puzzlemix.reporting.runs import Row
from puzzlemix.training.loop import PARTS

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


class PageFigure(NamedTuple):
    """A figure as HTML, and what is below it."""

    content: Markup
    caption: str


class Curve(NamedTuple):
    """A quantity at each epoch, of several seeds: epochs (E,), values (seeds, E)."""

    label: str
    colour: str
    epochs: np.ndarray
    values: np.ndarray


def curves_of(rows: Mapping[str, Row], key: str) -> list[Curve]:
    """A number of the logs, for each row that has it: of its finished runs; where none is, as far as all have come."""
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


def draw_curves(curves: Sequence[Curve], ylabel: str) -> str:
    """Curves over epochs, for the page."""
    with mpl.rc_context(STYLE):
        return svg(*_curves(curves, ylabel))


def save_curves(path: Path, curves: Sequence[Curve], ylabel: str, title: str) -> None:
    """The same as a PNG, which says of what it is.

    Raises:
        RunError: it cannot be written.
    """
    with mpl.rc_context(STYLE):
        figure, ax = _curves(curves, ylabel, height=4.2)
        ax.set_title(title, loc="left", fontsize=9)
        _add_legend(figure, ax)
        save_picture(figure, path)


def _curves(curves: Sequence[Curve], ylabel: str, height: float = 3.2) -> tuple[Figure, Axes]:
    """Mean over seeds, with the span from the least to the largest as a band; a wide span on a logarithmic axis.

    The first tenth of the epochs may leave the axis at the top: else the last could not be told apart.
    """
    figure, ax = axes(height)
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
    ax.set_xlabel("epoch")
    ax.set_ylabel(ylabel)
    return figure, ax


def draw_seconds(rows: Mapping[str, Row]) -> str:
    """Seconds of an epoch by part, a stacked bar a row."""
    seconds = {label: row.seconds for label, row in rows.items() if row.finished}
    with mpl.rc_context(STYLE):
        figure, ax = axes(height=1.2 + 0.35 * len(seconds))
        left = np.zeros(len(seconds))
        for part, colour in zip(PARTS, COLOURS, strict=False):
            widths = np.array([of_row[part] for of_row in seconds.values()])
            ax.barh(list(seconds), widths, left=left, color=colour, label=part)
            left += widths
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("seconds an epoch, mean over seeds")
        return svg(figure, ax)


def draw_ablation(key: str, points: Sequence[tuple[Any, Sequence[float]]]) -> str:
    """Error against a setting: numbers in their order or names side by side, with errors of several seeds."""
    values = [value for value, _ in points]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    x = values if numeric else range(len(values))
    with mpl.rc_context(STYLE):
        figure, ax = axes()
        y, spans = zip(*(mean_and_span(errors) for _, errors in points), strict=True)
        ax.errorbar(x, y, spans, color=COLOURS[0], marker="o", linestyle="-" if numeric else "none", capsize=3)
        if numeric and min(values) > 0 and max(values) > WIDE * min(values):
            ax.set_xscale("log")
            _label_in_numbers(ax.xaxis)
        if not numeric:
            ax.set_xticks(list(x), [str(value) for value in values])
            ax.margins(x=0.2)
        ax.set_xlabel(key)
        ax.set_ylabel("top-1 error, %")
        return svg(figure, ax, legend=False)


def _add_legend(figure: Figure, ax: Axes) -> None:
    if ax.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)


def mean_and_span(errors: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation, 0 of one value."""
    return mean(errors), stdev(errors) if len(errors) > 1 else 0.0


def _label_in_numbers(axis: Axis) -> None:
    """Ticks of a logarithmic axis at 1, 2, 5, 10, ... as they are: 0.05, not 5e-2."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def axes(height: float = 3.2) -> tuple[Figure, Axes]:
    """An empty figure of the page's width, its height in inches; inside `mpl.rc_context(STYLE)`."""
    figure = Figure(figsize=(6.4, height), layout="constrained")
    return figure, figure.subplots()


def svg(figure: Figure, ax: Axes, legend: bool = True) -> str:
    """An SVG to stand in a page with others: without ids of its own groups, which would be those of the others too."""
    if legend:
        _add_legend(figure, ax)
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True)
    before, _, drawing = text.getvalue().partition("<metadata>")
    svg = before[before.index("<svg") :] + drawing.partition("</metadata>")[2]
    described = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(ax.get_ylabel() or ax.get_xlabel())}" ', 1)
    return re.sub(r'<g id="[^"]*"', "<g", described).replace(TEXT, "currentColor")
