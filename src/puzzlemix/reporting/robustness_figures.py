"""The report's figures of robustness: errors under attack and on corrupted images, and how far to trust confidence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import mean
from typing import Any, NamedTuple

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from puzzlemix.data.corrupted import SEVERITIES, STANDARD
from puzzlemix.evaluation.self_checks import attack_name
from puzzlemix.reporting.figures import COLOURS, STYLE, TEXT, PageFigure, axes, mean_and_span, svg
from puzzlemix.reporting.measures import CORRUPTED, TOP1
from puzzlemix.reporting.runs import Row, Run

Lines = Mapping[str, Mapping[float, Sequence[float]]]  # by row, by x, the values of several seeds
Dots = Mapping[str, Mapping[str, Sequence[float]]]  # by what is measured, by row, likewise

BOUND_255 = 8  # at which attacks are set side by side: that of the paper's FGSM
LEAST_IMAGES = 10  # of a bin that is drawn: of fewer the share that is right says little
SPANS = "Mean over seeds, spans are standard deviations."


class Attacked(NamedTuple):
    """An error of a row's run."""

    label: str
    attack: Mapping[str, Any]
    error: float


def under_attack(rows: Mapping[str, Row]) -> list[PageFigure]:
    """Errors of all attacks at one bound, and against the bound where attacks differ in nothing else."""
    met = [Attacked(label, *one) for label, run in _runs(rows) for one in run.under_attack if one[0]["eps_255"] > 0]
    clean = {label: row.errors(TOP1) for label, row in rows.items()}
    curves: dict[str, dict[str, dict[float, list[float]]]] = {}
    for label, attack, error in met:
        of_family = curves.setdefault(family_of(attack), {label: {0.0: errors} for label, errors in clean.items()})
        of_family[label].setdefault(attack["eps_255"], []).append(error)
    curves = {family: by_row for family, by_row in curves.items() if len(_places(by_row)) > 2}

    dots: dict[str, dict[str, list[float]]] = {}
    for label, attack, error in met:
        if attack["eps_255"] == BOUND_255 or family_of(attack) not in curves:
            dots.setdefault(attack_name(attack), {}).setdefault(label, []).append(error)
    for label, run in _runs(rows):
        if found := run.robustness.get("auto_attack"):
            name = f"AutoAttack {found['eps_255']:g}/255, of {found['images']} images"
            dots.setdefault(name, {}).setdefault(label, []).append(found["error"])
    if not dots:
        return []
    weakest_first = dict(sorted(dots.items(), key=lambda item: _mean_of_all(item[1])))
    caption = "Top-1 error of the last epoch's network, the weakest attack first: it is the strongest that counts."
    figures = [_figure(draw_dots({"not attacked": clean, **weakest_first}, rows, "error, %"), f"{caption} {SPANS}")]
    for family, by_row in curves.items():
        caption = "Top-1 error of the last epoch's network against the attack's bound; 0: not attacked."
        drawn = draw_lines(by_row, f"eps of {family}, 1/255", "error, %", top=102)
        figures.append(_figure(drawn, f"{family}. {caption} {SPANS}"))
    return figures


def family_of(attack: Mapping[str, Any]) -> str:
    """On which curve an attack lies: those that differ in the bound alone, and step in proportion to it."""
    step = attack["step_255"] / attack["eps_255"] if attack["eps_255"] else 0.0
    if attack["steps"] == 1:
        start = ", random start" if attack["random_start"] else ""
        return f"FGSM{start}" if step == 1 else f"FGSM, step {step:.3g} eps{start}"
    start = "" if attack["random_start"] else ", no random start"
    restarts = f" x {attack['restarts']}" if attack.get("restarts", 1) > 1 else ""
    return f"PGD-{attack['steps']}{restarts}, step {step:.3g} eps{start}"


def on_corrupted_images(rows: Mapping[str, Row]) -> list[PageFigure]:
    """Errors of each corruption, and against its severity."""
    runs = [(label, run) for label, run in _runs(rows) if "corruptions" in run.robustness]
    of_each: dict[str, dict[str, list[float]]] = {}
    by_severity: dict[str, dict[float, list[float]]] = {label: {} for label in rows}
    for label, run in runs:
        for measure in CORRUPTED:
            if (error := run.error(measure)) is not None:
                name = measure.corruptions[0].replace("_", " ")
                of_each.setdefault(name, {}).setdefault(label, []).append(error)
        standard = [run.robustness["corruptions"]["errors"].get(name, [None]) for name in STANDARD]
        if all(None not in errors for errors in standard):
            for severity, errors in zip(SEVERITIES, zip(*standard, strict=True), strict=True):
                by_severity[label].setdefault(severity, []).append(mean(errors))
    figures = []
    if of_each:
        caption = f"Top-1 error on corrupted test images, mean over five severities. {SPANS}"
        figures.append(_figure(draw_dots(of_each, rows, "error, %"), caption))
    if any(by_severity.values()):
        caption = f"Top-1 error by severity, mean over the {len(STANDARD)} standard corruptions. {SPANS}"
        figures.append(_figure(draw_lines(by_severity, "severity", "error, %"), caption))
    return figures


def calibration(rows: Mapping[str, Row]) -> list[PageFigure]:
    """Reliability diagrams, and the accuracy of the images of which a network is surest."""
    bins, surest = defaultdict(list), {label: {} for label in rows}
    for label, run in _runs(rows):
        if run.robustness:
            bins[label].append(run.robustness["calibration"]["bins"])
            for one in run.robustness["calibration"]["by_confidence"]:
                if one["accuracy"] is not None:
                    surest[label].setdefault(100 * one["at_least"], []).append(one["accuracy"])
    if not bins:
        return []
    pooled = {label: pool(bins.get(label, [])) for label in rows}
    reliability = (
        "How many answers are right, by the network's confidence, in bins of equal width: below the dashed line it is "
        f"surer than it is right. Images of all seeds; bins of fewer than {LEAST_IMAGES} are left out."
    )
    of_surest = f"Accuracy on the test images of which the network is at least so sure. {SPANS}"
    return [
        _figure(draw_reliability(pooled), reliability),
        _figure(draw_lines(surest, "confidence of at least, %", "accuracy, %"), of_surest),
    ]


def pool(bins_of_seeds: Sequence[Sequence[Mapping[str, Any]]]) -> list[tuple[float, float]]:
    """Mean confidence and accuracy in percent of each bin, over the images of several seeds."""
    pooled = []
    for bins in zip(*bins_of_seeds, strict=True):
        images = sum(one["images"] for one in bins)
        if images >= LEAST_IMAGES:
            filled = [one for one in bins if one["images"]]
            confidence, accuracy = (
                sum(one["images"] * one[key] for one in filled) / images for key in ("confidence", "accuracy")
            )
            pooled.append((confidence, accuracy))
    return pooled


def draw_lines(curves: Lines, xlabel: str, ylabel: str, top: float | None = None) -> str:
    """A line a row, with spans; the y axis from 0 to `top`, where that is given."""
    with mpl.rc_context(STYLE):
        figure, ax = axes()
        for (label, by_x), colour in zip(curves.items(), COLOURS, strict=False):
            if len(by_x) > 1:
                x = sorted(by_x)
                y, spans = zip(*(mean_and_span(by_x[place]) for place in x), strict=True)
                ax.errorbar(x, y, spans, color=colour, label=label, capsize=2, marker="o", markersize=3)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel(xlabel)
        ax.set_ylabel(ylabel)
        if top is not None:
            ax.set_ylim(0, top)
        return svg(figure, ax)


def draw_dots(dots: Dots, labels: Iterable[str], xlabel: str) -> str:
    """A line of dots for each thing that is measured, a dot a row."""
    with mpl.rc_context(STYLE):
        figure, ax = axes(height=1.5 + 0.28 * len(dots))
        for label, colour in zip(labels, COLOURS, strict=False):
            found = [(place, of_row[label]) for place, of_row in enumerate(dots.values()) if of_row.get(label)]
            if found:
                x, spans = zip(*(mean_and_span(values) for _, values in found), strict=True)
                y = [place for place, _ in found]
                ax.errorbar(x, y, xerr=spans, color=colour, label=label, linestyle="none", marker="o", markersize=4)
        ax.set_yticks(range(len(dots)), list(dots))
        ax.invert_yaxis()
        ax.set_xlabel(xlabel)
        return svg(figure, ax)


def draw_reliability(points: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Accuracy against confidence, a line a row, beside the line on which both are equal."""
    with mpl.rc_context(STYLE):
        figure, ax = axes()
        ax.plot([0, 100], [0, 100], color=TEXT, linestyle="--", linewidth=1)
        for (label, of_row), colour in zip(points.items(), COLOURS, strict=False):
            if of_row:
                ax.plot(*zip(*of_row, strict=True), color=colour, label=label, marker="o", markersize=3)
        ax.set_xlabel("confidence, %")
        ax.set_ylabel("accuracy, %")
        ax.set_ylim(-2, 102)
        return svg(figure, ax)


def _runs(rows: Mapping[str, Row]) -> Iterator[tuple[str, Run]]:
    return ((label, run) for label, row in rows.items() for run in row.finished)


def _places(curves: Lines) -> set[float]:
    return {x for by_x in curves.values() for x in by_x}


def _mean_of_all(by_row: Mapping[str, Sequence[float]]) -> float:
    return mean(error for errors in by_row.values() for error in errors)


def _figure(drawn: str, caption: str) -> PageFigure:
    return PageFigure(Markup(drawn), caption)
