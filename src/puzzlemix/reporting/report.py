"""All results as one page that needs nothing else: tables, figures and pictures. Needs matplotlib, Pillow and Jinja."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment
from markupsafe import Markup
from PIL import Image

from puzzlemix.reporting import figures, robustness_figures
from puzzlemix.reporting.ablations import Ablation, find_ablations
from puzzlemix.reporting.figures import PageFigure
from puzzlemix.reporting.results import Results, TableResults, as_tables, named
from puzzlemix.reporting.runs import Row, by_name, short_commit
from puzzlemix.reporting.tables import Table

ROWS = len(figures.COLOURS)  # that a figure shows
WEBP_QUALITY = 85
WIDE_PX = 800  # of a picture that takes the whole width of the page


class Group(NamedTuple):
    """Figures under one title."""

    title: str
    figures: list[PageFigure]
    note: str = ""


class Section(NamedTuple):
    """A tab of the page: one table's results."""

    name: str
    tables: list[Table]
    groups: list[Group]


def report_page(results: Results, results_dir: Path, commit: str | None) -> str:
    """The page.

    Args:
        results: what to show, of any number of runs.
        results_dir: where they were read.
        commit: of this code.
    """
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        resources.files("puzzlemix.reporting").joinpath("report.html").read_text()
    )
    text = page.render(
        sections=[section_of(result, short_commit(commit)) for result in results.tables],
        problems=results.problems,
        runs=sum(len(row.runs) for result in results.tables for row in result.rows),
        results_dir=results_dir,
        commit=short_commit(commit),
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )
    return text.encode(errors="replace").decode()  # a folder's name may be no UTF-8


def section_of(result: TableResults, commit: str) -> Section:
    """One table's tab; a group without figures is left out."""
    rows = result.rows_to_draw(ROWS)
    left_out = len(result.rows) - len(rows)
    note = f"The {ROWS} rows of least error, of each method one first; {left_out} are not drawn." if left_out else ""
    groups = [
        Group("Learning curves", learning_curves(rows), f"{note} {damaged_logs(rows)}".strip()),
        Group("Under attack", robustness_figures.under_attack(rows), note),
        Group("Corrupted images", robustness_figures.on_corrupted_images(rows), note),
        Group("Calibration", robustness_figures.calibration(rows), note),
        Group("Time", seconds(rows), note),
        Group("Ablations", [ablation_figure(ablation) for ablation in find_ablations(result.rows)]),
        Group("Mixed images", mixed_images(result.rows)),
    ]
    return Section(result.name, as_tables([result], commit), [group for group in groups if group.figures])


def learning_curves(rows: Mapping[str, Row]) -> list[PageFigure]:
    """Error and loss at each epoch."""
    wanted = (
        ("top1_error", "top-1 error, %", "Error on the images that the runs are evaluated on."),
        ("train_loss", "loss", "Loss on the mixed training images; methods differ in what it is of."),
    )
    drawn = []
    for key, ylabel, caption in wanted:
        if curves := figures.curves_of(rows, key):
            caption = f"{caption} Mean over seeds; the band is from the least to the largest."
            drawn.append(PageFigure(Markup(figures.draw_curves(curves, ylabel)), caption))
    return drawn


def damaged_logs(rows: Mapping[str, Row]) -> str:
    """A sentence on the finished runs whose curves end too early, if there are any."""
    finished = {name: run for name, run in by_name(rows).items() if run.status == "finished"}
    damaged = [name for name, run in finished.items() if len(run.log) < run.metrics["epochs"]]
    where = "log.jsonl has not all epochs whole, and the curve ends before the first that is damaged"
    return f"Of {named(damaged, len(finished))} {where}." if damaged else ""


def seconds(rows: Mapping[str, Row]) -> list[PageFigure]:
    """What an epoch's time goes to."""
    finished = {label: row for label, row in rows.items() if row.finished}
    if not finished:
        return []
    machines = {str(run.metrics["machine"]["gpu"] or run.metrics["machine"]["processor"]) for run in _runs(finished)}
    caption = f"By the part of a step, with the evaluation, on {', '.join(sorted(machines))}."
    return [PageFigure(Markup(figures.draw_seconds(finished)), caption)]


def ablation_figure(ablation: Ablation) -> PageFigure:
    """Error against one setting."""
    counts = sorted({len(errors) for _, errors in ablation.points})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    caption = f"{ablation.method}, all else equal; {seeds} seeds a value, spans are standard deviations."
    return PageFigure(Markup(figures.draw_ablation(ablation.key, ablation.points)), caption)


def mixed_images(rows: Iterable[Row]) -> list[PageFigure]:
    """For each method the picture that one of its runs drew."""
    pictures: dict[str, PageFigure] = {}
    for run in _runs({row.label: row for row in rows}):
        path = run.folder / "mixed.png"
        if run.method not in pictures and path.is_file():
            pictures[run.method] = PageFigure(
                _picture(path), f"{run.method}: {run.name}, seed {run.seed}, training images"
            )
    return list(pictures.values())


def _runs(rows: Mapping[str, Row]) -> list:
    return [run for row in rows.values() for run in row.finished]


def _picture(path: Path) -> Markup:
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
