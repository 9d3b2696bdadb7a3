"""A page with all results in one file: tables, figures, mixed images. Needs matplotlib and Jinja."""

import base64
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from importlib import resources
from itertools import chain
from pathlib import Path
from statistics import mean
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from puzzlemix.evaluation.self_checks import attack_name
from puzzlemix.reporting import figures
from puzzlemix.reporting.compare import MARKS, Results, comparison_table
from puzzlemix.reporting.figures import PageFigure
from puzzlemix.reporting.measures import CORRUPTED, TOP1
from puzzlemix.reporting.mixing_statistics import NAME as STATISTICS
from puzzlemix.reporting.run_tables import RunTable, tables_of
from puzzlemix.reporting.runs import Row, Run, short_commit

COMPARED = "table", "sage"  # how the names of the published tables on the page begin
ROWS = len(figures.COLOURS)  # of a figure, at most
LEAST_IMAGES = 10  # in a bin of the reliability diagram; among fewer images the accuracy says little
SPANS = "Mean over seeds, spans are standard deviations."


def report_page(results: Results, results_dir: Path, commit: str | None) -> str:
    """The page as HTML, with results that were read from a folder, and the commit of the code if it is known."""
    compared = [comparison_table(table, rows) for table, rows in results.published if table.name.startswith(COMPARED)]
    published = {"name": "published tables", "tables": compared, "groups": {}, "note": ""}
    template = resources.files("puzzlemix.reporting").joinpath("page.html").read_text()
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    text = page.render(
        sections=[published, *map(section_of, results.own)],
        marks={mark: word.replace(" ", "-") for word, (mark, _) in MARKS.items()},
        problems=results.problems,
        runs=sum(len(row.runs) for table in results.own for row in table.rows),
        results_dir=results_dir,
        commit=short_commit(commit),
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )
    return text.encode(errors="replace").decode()  # a folder's name may be no UTF-8


def section_of(table: RunTable) -> dict[str, Any]:
    """The tab of a table of runs, as `page.html` takes it."""
    rows = table.rows_to_draw(ROWS)
    left_out = len(table.rows) - len(rows)
    groups = {
        "Learning curves": learning_curves(rows),
        "Under attack": under_attack(rows),
        "Corrupted images": on_corrupted_images(rows),
        "Calibration": calibration(rows),
        "What mixing does to images": mixing_statistics(table.rows),
        "Mixed images": mixed_images(table.rows),
    }
    return {
        "name": table.name,
        "tables": tables_of(table),
        "groups": {title: shown for title, shown in groups.items() if shown},
        "note": f"Figures show the {ROWS} rows of least error, {left_out} are left out." if left_out else "",
    }


def learning_curves(rows: Mapping[str, Row]) -> list[PageFigure]:
    """Error and loss at each epoch."""
    found = []
    for key, ylabel, caption in (
        ("top1_error", "top-1 error, %", "Error on the images that the runs are evaluated on."),
        ("train_loss", "loss", "Loss on the mixed training images, which methods define differently."),
    ):
        if curves := figures.curves_of(rows, key):
            caption = f"{caption} Mean over seeds; the band is from the least to the largest."
            found.append(PageFigure(figures.draw_curves(curves, ylabel), caption))
    return found


def under_attack(rows: Mapping[str, Row]) -> list[PageFigure]:
    """Errors under each attack, and errors against eps of attacks that differ in nothing else."""
    clean = {label: row.errors(TOP1) for label, row in rows.items()}
    dots: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    lines = defaultdict(lambda: {label: {0.0: errors} if errors else {} for label, errors in clean.items()})
    for label, run in _finished(rows):
        for attack, error in run.under_attack:
            if attack["eps_255"] > 0:
                dots[attack_name(attack)][label].append(error)
                lines[family_of(attack)][label].setdefault(attack["eps_255"], []).append(error)
        if auto_attack := run.robustness.get("auto_attack"):
            name = f"AutoAttack {auto_attack['eps_255']:g}/255, {auto_attack['images']} images"
            dots[name][label].append(auto_attack["error"])
    if not dots:
        return []

    weakest_first = sorted(dots, key=lambda name: mean(chain.from_iterable(dots[name].values())))
    shown = {"not attacked": clean, **{name: dots[name] for name in weakest_first}}
    caption = f"Top-1 error of the last epoch's network, the weakest attack first. {SPANS}"
    found = [PageFigure(figures.draw_dots(shown, rows), caption)]
    for family, by_row in lines.items():
        if len(set().union(*by_row.values())) > 2:
            caption = f"{family}. Top-1 error of the last epoch's network against eps; 0: not attacked. {SPANS}"
            found.append(PageFigure(figures.draw_lines(by_row, f"eps of {family}, 1/255", "error, %"), caption))
    return found


def family_of(attack: Mapping[str, Any]) -> str:
    """The attacks that differ in eps alone, and step in proportion to it: `FGSM`, `PGD-20 (step 0.5 eps)`."""
    at_eps_1 = {**attack, "eps_255": 1, "step_255": attack["step_255"] / attack["eps_255"]}
    name, _, details = attack_name(at_eps_1).partition(" 1/255")
    return name + details.replace(")", " eps)")


def on_corrupted_images(rows: Mapping[str, Row]) -> list[PageFigure]:
    """Errors on each corruption."""
    dots: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for measure in CORRUPTED:
        for label, row in rows.items():
            if errors := row.errors(measure):
                dots[measure.short_title][label] = errors
    caption = f"Top-1 error on corrupted test images, mean over five severities. {SPANS}"
    return [PageFigure(figures.draw_dots(dots, rows), caption)] if dots else []


def calibration(rows: Mapping[str, Row]) -> list[PageFigure]:
    """A reliability diagram."""
    bins = defaultdict(list)
    for label, run in _finished(rows):
        if run.robustness:
            bins[label].append(run.robustness["calibration"]["bins"])
    caption = (
        "How many answers are right, by the network's confidence, in bins of equal width: below the dashed line it is "
        f"too confident. Images of all seeds, without bins of fewer than {LEAST_IMAGES}."
    )
    lines = {label: pool(bins[label]) for label in rows}
    drawn = figures.draw_lines(lines, "confidence, %", "accuracy, %", with_diagonal=True)
    return [PageFigure(drawn, caption)] if any(lines.values()) else []


def pool(bins_of_seeds: Sequence[Sequence[Mapping[str, Any]]]) -> dict[float, list[float]]:
    """The accuracy of each bin by its mean confidence, in percent, over the images of several seeds."""
    pooled = {}
    for bins in zip(*bins_of_seeds, strict=True):
        filled = [one for one in bins if one["images"]]
        images = sum(one["images"] for one in filled)
        if images >= LEAST_IMAGES:
            confidence = sum(one["images"] * one["confidence"] for one in filled) / images
            pooled[confidence] = [sum(one["images"] * one["accuracy"] for one in filled) / images]
    return pooled


def mixed_images(rows: Iterable[Row]) -> list[PageFigure]:
    """For each method the picture that one of its runs drew."""
    pictures: dict[str, PageFigure] = {}
    for run in (run for row in rows for run in row.finished):
        what = f"{run.method}: {run.name}, seed {run.seed}, training images"
        if run.method not in pictures and (picture := _picture(run.folder / "mixed.png", what)):
            pictures[run.method] = picture
    return list(pictures.values())


def mixing_statistics(rows: Iterable[Row]) -> list[PageFigure]:
    """Figure 2 of the paper, for each network that it was measured with."""
    found = []
    for run in (run for row in rows for run in row.finished):
        what = f"Measured with the network of {run.name}, seed {run.seed}; dashed: the paper's Figure 2."
        found.append(_picture((run.folder / STATISTICS).with_suffix(".png"), what))
    return [figure for figure in found if figure]


def _picture(path: Path, what: str) -> PageFigure | None:
    """The picture in a PNG, if it is there, with what it shows."""
    if not path.is_file():
        return None
    data = base64.b64encode(path.read_bytes()).decode()
    return PageFigure(Markup('<img alt="{}" src="data:image/png;base64,{}">').format(what, data), what)


def _finished(rows: Mapping[str, Row]) -> list[tuple[str, Run]]:
    return [(label, run) for label, row in rows.items() for run in row.finished]
