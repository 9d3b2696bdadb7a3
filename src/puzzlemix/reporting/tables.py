"""Finished runs as one table: mean and standard deviation over seeds, beside the published number where known."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from puzzlemix.errors import require
from puzzlemix.runlog import read_metrics

HEADER = (
    "run",
    "seeds",
    "epochs",
    "top-1 error %",
    "FGSM 8/255 %",
    "PGD-20 4/255 %",
    "s / epoch",
    "published top-1 error %",
    "published FGSM %",
)

# What the columns of attacks hold: a run attacked otherwise under the same name does not belong there.
ATTACKS = {
    "fgsm8": {"eps_255": 8, "step_255": 8, "steps": 1, "random_start": False},
    "pgd20_eps4": {"eps_255": 4, "step_255": 2, "steps": 20, "random_start": True},
}


def read_runs(results_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """The `metrics.json` of all finished runs below a folder, by row of the table, in the order of their seeds.

    Runs stand in one row if they differ in nothing but the seed. A row is called by their name, and where runs of one
    name have several configs (in several folders) also by the beginning of the config's hash.

    Raises:
        InputError: there is none, or one is damaged.
    """
    all_runs = [read_metrics(path) for path in sorted(Path(results_dir).rglob("metrics.json"))]
    require(
        bool(all_runs), f"no finished run below {results_dir}: train one, `python scripts/train.py mixup=puzzlemix`"
    )
    configs = defaultdict(set)
    for metrics in all_runs:
        configs[metrics["name"]].add(metrics["config_hash"])
    rows = defaultdict(list)
    for metrics in sorted(all_runs, key=lambda metrics: metrics["seed"]):
        name, config_hash = metrics["name"], metrics["config_hash"]
        rows[name if len(configs[name]) == 1 else f"{name} [{config_hash[:8]}]"].append(metrics)
    return dict(sorted(rows.items()))


def read_published(path: Path, metric: str) -> dict[str, str]:
    """A metric's published values by experiment, as `19.6 (source, statistic)`. The file: `results/paper/README.md`."""
    require(Path(path).is_file(), f"{path} is not there: give published=, or restore it from the repository")
    with open(path, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == metric]
    return {row["experiment"]: f"{row['value']} ({row['source']}: {row['statistic']})" for row in rows}


def table(runs: Mapping[str, list[dict[str, Any]]], published: Path) -> list[tuple[str, ...]]:
    """The rows of `read_runs`, their cells as `HEADER` says; clean errors are `median10`, as in the paper's tables."""
    top1, fgsm = (read_published(published, metric) for metric in ("top1_error", "fgsm8_error"))
    rows = []
    for shown, seeds in runs.items():
        name, on = seeds[0]["name"], seeds[0]["evaluated_on"]
        cells = (
            spread([metrics["top1_error"]["median10"] for metrics in seeds]),
            *(spread(attacked(seeds, attack)) for attack in ATTACKS),
            spread([metrics["seconds_per_epoch"]["total"] for metrics in seeds]),
            *(column.get(name, "not available") for column in (top1, fgsm)),
        )
        epochs = "/".join(str(n) for n in sorted({metrics["epochs"] for metrics in seeds}))
        rows.append((shown if on == "test" else f"{shown}, {on} images", str(len(seeds)), epochs, *cells))
    return rows


def attacked(seeds: list[dict[str, Any]], attack: str) -> list[float]:
    """Errors of the runs that met this attack with the settings of its column."""
    return [metrics[f"{attack}_error"] for metrics in seeds if metrics["attacks"].get(attack) == ATTACKS[attack]]


def spread(values: list[float]) -> str:
    """`mean ± standard deviation`; of one value that value alone, of none a dash."""
    if not values:
        return "-"
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def as_markdown(rows: list[tuple[str, ...]]) -> str:
    """The table in Markdown."""
    lines = [
        HEADER,
        tuple("---" if i == 0 or "published" in title else "---:" for i, title in enumerate(HEADER)),
        *rows,
    ]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def print_table(rows: list[tuple[str, ...]]) -> None:
    """The table in the terminal."""
    from rich import box  # here, so that reading results needs no library
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD)
    for i, title in enumerate(HEADER):
        shown.add_column(title, justify="left" if i == 0 or title.startswith("published") else "right", overflow="fold")
    for row in rows:
        shown.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console.width = 200  # a pipe or a log has no width of its own
    console.print(shown)
