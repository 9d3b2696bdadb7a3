"""All results as one page that needs nothing else: tables, figures and pictures. Needs matplotlib, Pillow and Jinja."""

import base64
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from jinja2 import Environment
from markupsafe import Markup
from PIL import Image

from puzzlemix.data.corrupted import SEVERITIES, STANDARD
from puzzlemix.evaluation.self_checks import attack_name
from puzzlemix.reporting import figures
from puzzlemix.reporting.compare import MARKS, Results, comparison_table
from puzzlemix.reporting.figures import PageFigure
from puzzlemix.reporting.measures import CORRUPTED, TOP1
from puzzlemix.reporting.run_tables import RunTable, tables_of
from puzzlemix.reporting.runs import Row, Run, short_commit
from puzzlemix.training.settings import canonical

COMPARED = "table", "sage"  # the beginnings of the names of the published tables on the page
ROWS = len(figures.COLOURS)  # that a figure shows
BOUND_255 = 8  # at which attacks are compared: that of the paper's FGSM
LEAST_IMAGES = 10  # of a bin that is drawn: among fewer the share that is right says little
SPANS = "Mean over seeds, spans are standard deviations."
WEBP_QUALITY = 85
WIDE_PX = 800  # of a picture that takes the whole width of the page rather than of a column


class Group(NamedTuple):
    """Figures under one title."""

    title: str
    figures: list[PageFigure]
    note: str = ""


def report_page(results: Results, results_dir: Path, commit: str | None) -> str:
    """The page on results that were read in a folder, by the code of a commit."""
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        resources.files("puzzlemix.reporting").joinpath("page.html").read_text()
    )
    compared = [comparison_table(table, rows) for table, rows in results.published if table.name.startswith(COMPARED)]
    published = {"name": "published tables", "tables": compared, "groups": []}
    text = page.render(
        sections=[published, *(section_of(table, short_commit(commit)) for table in results.own)],
        marks={mark: word.replace(" ", "-") for word, (mark, _) in MARKS.items()},
        problems=results.problems,
        runs=sum(len(row.runs) for table in results.own for row in table.rows),
        results_dir=results_dir,
        commit=short_commit(commit),
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )
    return text.encode(errors="replace").decode()  # a folder's name may be no UTF-8


def section_of(table: RunTable, commit: str) -> dict[str, Any]:
    """The tab of one table of runs, as the page takes it; a group without figures is left out."""
    rows = table.rows_to_draw(ROWS)
    left_out = len(table.rows) - len(rows)
    note = f"The {ROWS} rows of least error, of each method one first; {left_out} are not drawn." if left_out else ""
    groups = [
        Group("Learning curves", learning_curves(rows), note),
        Group("Under attack", under_attack(rows), note),
        Group("Corrupted images", on_corrupted_images(rows), note),
        Group("Calibration", calibration(rows), note),
        Group("Time", seconds(rows), note),
        Group("Ablations", [ablation_figure(*ablation) for ablation in find_ablations(table.rows)]),
        Group("Mixed images", mixed_images(table.rows)),
    ]
    shown = [group for group in groups if group.figures]
    return {"name": table.name, "tables": tables_of(table, commit), "groups": shown}


def learning_curves(rows: Mapping[str, Row]) -> list[PageFigure]:
    """Error and loss at each epoch."""
    wanted = (
        ("top1_error", "top-1 error, %", "Error on the images that the runs are evaluated on."),
        ("train_loss", "loss", "Loss on the mixed training images; methods differ in what it is of."),
    )
    band = "Mean over seeds; the band is from the least to the largest."
    return [
        PageFigure(figures.draw_curves(curves, ylabel), f"{caption} {band}")
        for key, ylabel, caption in wanted
        if (curves := figures.curves_of(rows, key))
    ]


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
            dots.setdefault(attack_name(attack), {}).setdefault(label, []).append(error)
    for label, run in _runs(rows):
        if attacked := run.robustness.get("auto_attack"):
            name = f"AutoAttack {attacked['eps_255']:g}/255, of {attacked['images']} images"
            dots.setdefault(name, {}).setdefault(label, []).append(attacked["error"])
    if not dots:
        return []
    weakest_first = sorted(dots, key=lambda name: mean(error for errors in dots[name].values() for error in errors))
    shown = {"not attacked": clean, **{name: dots[name] for name in weakest_first}}
    caption = "Top-1 error of the last epoch's network, the weakest attack first: it is the strongest that counts."
    found = [PageFigure(figures.draw_dots(shown, rows, "error, %"), f"{caption} {SPANS}")]
    for family, by_row in curves.items():
        caption = "Top-1 error of the last epoch's network against the attack's bound; 0: not attacked."
        drawn = figures.draw_lines(by_row, f"eps of {family}, 1/255", "error, %", top=102)
        found.append(PageFigure(drawn, f"{family}. {caption} {SPANS}"))
    return found


def family_of(attack: Mapping[str, Any]) -> str:
    """The curve on which an attack lies: its attacks differ in the bound alone, and step in proportion to it."""
    step = attack["step_255"] / attack["eps_255"]
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
        if errors_of.keys() >= set(STANDARD):
            standard = [errors_of[name] for name in STANDARD]
            for severity, errors in zip(SEVERITIES, zip(*standard, strict=True), strict=True):
                by_severity[label].setdefault(severity, []).append(mean(errors))
    found = []
    if of_each:
        caption = f"Top-1 error on corrupted test images, mean over five severities. {SPANS}"
        found.append(PageFigure(figures.draw_dots(of_each, rows, "error, %"), caption))
    if any(by_severity.values()):
        caption = f"Top-1 error by severity, mean over the {len(STANDARD)} standard corruptions. {SPANS}"
        found.append(PageFigure(figures.draw_lines(by_severity, "severity", "error, %"), caption))
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
        PageFigure(figures.draw_reliability(pooled), reliability),
        PageFigure(figures.draw_lines(surest, "confidence of at least, %", "accuracy, %"), of_surest),
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


def seconds(rows: Mapping[str, Row]) -> list[PageFigure]:
    """What an epoch's time goes to."""
    finished = {label: row for label, row in rows.items() if row.finished}
    machines = [run.metrics["machine"] for _, run in _runs(finished)]
    names = sorted({str(machine["gpu"] or machine["processor"]) for machine in machines})
    caption = f"By the part of a step, with the evaluation, on {', '.join(names)}."
    return [PageFigure(figures.draw_seconds(finished), caption)] if finished else []


def find_ablations(rows: Iterable[Row]) -> list[tuple[str, str, list[tuple[Any, list[float]]]]]:
    """Settings of methods in which finished runs of one table differ, and in nothing else but the seed.

    Each is a method, a key such as mixup.beta, and points: a value and the `median10` errors of its seeds, in percent.
    """
    groups: dict[tuple, dict[str, tuple[Any, dict[int, float]]]] = defaultdict(dict)
    for row in rows:
        settings, method = row.settings, row.runs[0].method
        texts = {key: canonical(value) for key, value in sorted(settings.items())}
        errors = {run.seed: run.error(TOP1, "median10") for run in row.finished}
        for key in (key for key in settings if key.startswith("mixup.") and key != "mixup._target_"):
            others = tuple(text for other, text in texts.items() if other != key)
            _, of_value = groups[method, key, others].setdefault(texts[key], (settings[key], {}))
            of_value.update(errors)  # by seed, since rows of several names may have this value
    found = []
    for (method, key, _), by_value in sorted(groups.items()):
        points = [(value, list(errors.values())) for value, errors in by_value.values() if errors]
        if len(points) > 1:
            found.append((method, key, sorted(points, key=lambda point: order_of(point[0]))))
    return found


def order_of(value: Any) -> tuple[bool, float, str]:
    """Numbers first, by size, then the rest by how it is written."""
    number = isinstance(value, int | float)
    return not number, value if number else 0.0, str(value)


def ablation_figure(method: str, key: str, points: Sequence[tuple[Any, Sequence[float]]]) -> PageFigure:
    """Error against one setting."""
    counts = sorted({len(errors) for _, errors in points})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    caption = f"{method}, all else equal; {seeds} seeds a value, spans are standard deviations."
    return PageFigure(figures.draw_ablation(key, points), caption)


def mixed_images(rows: Iterable[Row]) -> list[PageFigure]:
    """For each method the picture that one of its runs drew."""
    pictures: dict[str, PageFigure] = {}
    for run in (run for row in rows for run in row.finished):
        path, caption = run.folder / "mixed.png", f"{run.method}: {run.name}, seed {run.seed}, training images"
        if run.method not in pictures and path.is_file():
            pictures[run.method] = PageFigure(_picture(path), caption)
    return list(pictures.values())


def _picture(path: Path) -> str:
    """A PNG inside the page, as WebP, which is a third of its size; a line where it is damaged."""
    webp = io.BytesIO()
    try:
        with Image.open(path) as image:
            image.convert("RGB").save(webp, "WEBP", quality=WEBP_QUALITY)
            wide = "wide" if image.width > WIDE_PX else ""
    except Exception as error:  # Pillow raises errors of many types of damaged and of very large PNGs
        return Markup("<p>{} is damaged: {}</p>").format(path, error)
    data = base64.b64encode(webp.getvalue()).decode()
    tag = Markup(f'<img class="{wide}" alt="{{}}" src="data:image/webp;base64,{data}">')
    return tag.format(f"mixed images of {path.parent.parent.name}")


def _runs(rows: Mapping[str, Row]) -> list[tuple[str, Run]]:
    return [(label, run) for label, row in rows.items() for run in row.finished]
