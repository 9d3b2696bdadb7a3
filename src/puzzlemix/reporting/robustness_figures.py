"""The page's figures of robustness: errors under attack and on corrupted images, and how far to trust confidence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from puzzlemix.data.corrupted import SEVERITIES, STANDARD
from puzzlemix.evaluation.self_checks import words
from puzzlemix.reporting.figures import PageFigure, draw_dots, draw_lines, draw_reliability
from puzzlemix.reporting.measures import CORRUPTED, TOP1
from puzzlemix.reporting.runs import Row, Run

BOUND_255 = 8  # at which attacks are compared: that of the paper's FGSM
LEAST_IMAGES = 10  # of a bin that is drawn: among fewer the share that is right says little
SPANS = "Mean over seeds, spans are standard deviations."


def under_attack(rows: Mapping[str, Row]) -> list[PageFigure]:
    """Errors of all attacks at one bound, and against the bound where attacks differ in nothing else."""
    met = [(label, *one) for label, run in _runs(rows) for one in run.under_attack if one[0]["eps_255"] > 0]
    clean = {label: row.errors(TOP1) for label, row in rows.items()}
    curves: dict[str, dict[str, dict[float, list[float]]]] = {}
    for label, attack, error in met:
        of_family = curves.setdefault(family_of(attack), {label: {0.0: errors} for label, errors in clean.items()})
        of_family[label].setdefault(attack["eps_255"], []).append(error)
    curves = {family: by_row for family, by_row in curves.items() if len(set().union(*by_row.values())) > 2}

    dots: dict[str, dict[str, list[float]]] = {}
    for label, attack, error in met:
        if attack["eps_255"] == BOUND_255 or family_of(attack) not in curves:
            dots.setdefault(words(attack), {}).setdefault(label, []).append(error)
    for label, run in _runs(rows):
        if found := run.robustness.get("auto_attack"):
            name = f"AutoAttack {found['eps_255']:g}/255, of {found['images']} images"
            dots.setdefault(name, {}).setdefault(label, []).append(found["error"])
    if not dots:
        return []
    weakest_first = sorted(dots, key=lambda name: mean(error for errors in dots[name].values() for error in errors))
    shown = {"not attacked": clean, **{name: dots[name] for name in weakest_first}}
    caption = "Top-1 error of the last epoch's network, the weakest attack first: it is the strongest that counts."
    found = [PageFigure(draw_dots(shown, rows, "error, %"), f"{caption} {SPANS}")]
    for family, by_row in curves.items():
        caption = "Top-1 error of the last epoch's network against the attack's bound; 0: not attacked."
        drawn = draw_lines(by_row, f"eps of {family}, 1/255", "error, %", top=102)
        found.append(PageFigure(drawn, f"{family}. {caption} {SPANS}"))
    return found


def family_of(attack: Mapping[str, Any]) -> str:
    """The curve on which an attack lies: its attacks differ in the bound alone, and step in proportion to it."""
    step = attack["step_255"] / attack["eps_255"] if attack["eps_255"] else 0.0
    if attack["steps"] == 1:
        start = ", random start" if attack["random_start"] else ""
        return f"FGSM{start}" if step == 1 else f"FGSM, step {step:.3g} eps{start}"
    start = "" if attack["random_start"] else ", no random start"
    restarts = f" x {attack['restarts']}" if attack.get("restarts", 1) > 1 else ""
    return f"PGD-{attack['steps']}{restarts}, step {step:.3g} eps{start}"


def on_corrupted_images(rows: Mapping[str, Row]) -> list[PageFigure]:
    """Errors of each corruption, and against its severity."""
    of_each: dict[str, dict[str, list[float]]] = {}
    by_severity: dict[str, dict[float, list[float]]] = {label: {} for label in rows}
    for label, run in _runs(rows):
        for measure in CORRUPTED:
            if (error := run.error(measure)) is not None:
                name = measure.corruptions[0].replace("_", " ")
                of_each.setdefault(name, {}).setdefault(label, []).append(error)
        errors_of = run.robustness.get("corruptions", {}).get("errors", {})
        standard = [errors_of.get(name, [None]) for name in STANDARD]
        if all(None not in errors for errors in standard):
            for severity, errors in zip(SEVERITIES, zip(*standard, strict=True), strict=True):
                by_severity[label].setdefault(severity, []).append(mean(errors))
    found = []
    if of_each:
        caption = f"Top-1 error on corrupted test images, mean over five severities. {SPANS}"
        found.append(PageFigure(draw_dots(of_each, rows, "error, %"), caption))
    if any(by_severity.values()):
        caption = f"Top-1 error by severity, mean over the {len(STANDARD)} standard corruptions. {SPANS}"
        found.append(PageFigure(draw_lines(by_severity, "severity", "error, %"), caption))
    return found


def calibration(rows: Mapping[str, Row]) -> list[PageFigure]:
    """A reliability diagram, and the accuracy on the images where a network is surest."""
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
        PageFigure(draw_reliability(pooled), reliability),
        PageFigure(draw_lines(surest, "confidence of at least, %", "accuracy, %"), of_surest),
    ]


def pool(bins_of_seeds: Sequence[Sequence[Mapping[str, Any]]]) -> list[tuple[float, float]]:
    """Mean confidence and accuracy in percent of each bin, over the images of several seeds."""
    pooled = []
    for bins in zip(*bins_of_seeds, strict=True):
        filled = [one for one in bins if one["images"]]
        images = sum(one["images"] for one in filled)
        if images >= LEAST_IMAGES:
            means = (sum(one["images"] * one[key] for one in filled) / images for key in ("confidence", "accuracy"))
            pooled.append(tuple(means))
    return pooled


def _runs(rows: Mapping[str, Row]) -> list[tuple[str, Run]]:
    return [(label, run) for label, row in rows.items() for run in row.finished]
