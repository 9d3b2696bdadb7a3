"""All results as one page that needs nothing else: tables, figures and pictures. Needs matplotlib, Pillow and Jinja."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment
from markupsafe import Markup
from PIL import Image

from puzzlemix.reporting import figures, robustness_figures
from puzzlemix.reporting.compare import Results, TableResults, as_tables
from puzzlemix.reporting.figures import PageFigure
from puzzlemix.reporting.measures import TOP1
from puzzlemix.reporting.run_tables import named
from puzzlemix.reporting.runs import Row, by_name, short_commit
from puzzlemix.training.settings import canonical

ROWS = len(figures.COLOURS)  # that a figure shows
WEBP_QUALITY = 85
WIDE_PX = 800  # of a picture that takes the whole width of the page


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
    text = page.render(
        sections=[section_of(result, short_commit(commit)) for result in results.tables],
        problems=results.problems,
        runs=sum(len(row.runs) for result in results.tables for row in result.rows),
        results_dir=results_dir,
        commit=short_commit(commit),
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )
    return text.encode(errors="replace").decode()  # a folder's name may be no UTF-8


def section_of(result: TableResults, commit: str) -> dict[str, Any]:
    """The tab of one table, as the page takes it; a group without figures is left out."""
    rows = result.rows_to_draw(ROWS)
    left_out = len(result.rows) - len(rows)
    note = f"The {ROWS} rows of least error, of each method one first; {left_out} are not drawn." if left_out else ""
    groups = [
        Group("Learning curves", learning_curves(rows), f"{note} {damaged_logs(rows)}".strip()),
        Group("Under attack", robustness_figures.under_attack(rows), note),
        Group("Corrupted images", robustness_figures.on_corrupted_images(rows), note),
        Group("Calibration", robustness_figures.calibration(rows), note),
        Group("Time", seconds(rows), note),
        Group("Ablations", [ablation_figure(*ablation) for ablation in find_ablations(result.rows)]),
        Group("Mixed images", mixed_images(result.rows)),
    ]
    shown = [group for group in groups if group.figures]
    return {"name": result.name, "tables": as_tables([result], commit), "groups": shown}


def learning_curves(rows: Mapping[str, Row]) -> list[PageFigure]:
    """Error and loss at each epoch."""
    wanted = (
        ("top1_error", "top-1 error, %", "Error on the images that the runs are evaluated on."),
        ("train_loss", "loss", "Loss on the mixed training images; methods differ in what it is of."),
    )
    spans = "Mean over seeds; the band is from the least to the largest."
    return [
        PageFigure(figures.draw_curves(curves, ylabel), f"{caption} {spans}")
        for key, ylabel, caption in wanted
        if (curves := figures.curves_of(rows, key))
    ]


def damaged_logs(rows: Mapping[str, Row]) -> str:
    """A sentence on the finished runs whose curves end too early, if there are any."""
    finished = {name: run for name, run in by_name(rows).items() if run.status == "finished"}
    damaged = [name for name, run in finished.items() if len(run.log) < run.metrics["epochs"]]
    where = "log.jsonl has not all epochs whole, and the curve ends before the first that is damaged"
    return f"In {named(damaged, len(finished))} {where}." if damaged else ""


def seconds(rows: Mapping[str, Row]) -> list[PageFigure]:
    """What an epoch's time goes to."""
    finished = {label: row for label, row in rows.items() if row.finished}
    machines = [run.metrics["machine"] for row in finished.values() for run in row.finished]
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
