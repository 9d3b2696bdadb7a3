"""Finished runs as one table: mean and standard deviation over seeds, beside the published number where known."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from puzzlemix.errors import InputError, require

HEADER = (
    "run",
    "seeds",
    "epochs",
    "top-1 error %",
    "FGSM 8/255 %",
    "PGD-20 4/255 %",
    "s / epoch",
    "published top-1 error %",
)


def read_runs(results_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """The `metrics.json` of all finished runs below a folder, by name, in the order of their seeds.

    Raises:
        InputError: there is none, or one is damaged.
    """
    runs = defaultdict(list)
    for path in sorted(Path(results_dir).rglob("metrics.json")):
        try:
            metrics = json.loads(path.read_text())
            runs[metrics["name"]].append(metrics)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged: delete it and start the same run again") from error
    require(bool(runs), f"no finished run below {results_dir}: train one, `python scripts/train.py mixup=puzzlemix`")
    return {name: sorted(seeds, key=lambda metrics: metrics["seed"]) for name, seeds in runs.items()}


def read_published(path: Path) -> dict[str, str]:
    """Published top-1 errors by experiment, as `19.6 (source)`. The file: `results/paper/README.md`."""
    require(Path(path).is_file(), f"{path} is not there: give published=, or restore it from the repository")
    with open(path, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "top1_error"]
    return {row["experiment"]: f"{row['value']} ({row['source']})" for row in rows}


def table(runs: Mapping[str, list[dict[str, Any]]], published: Mapping[str, str]) -> list[tuple[str, ...]]:
    """A row a run name, its cells as `HEADER` says; clean errors are `median10`, as in the paper's tables."""
    rows = []
    for name, seeds in runs.items():
        cells = (
            spread([metrics["top1_error"]["median10"] for metrics in seeds]),
            spread([metrics["fgsm8_error"] for metrics in seeds if "fgsm8_error" in metrics]),
            spread([metrics["pgd20_eps4_error"] for metrics in seeds if "pgd20_eps4_error" in metrics]),
            spread([metrics["seconds_per_epoch"]["total"] for metrics in seeds]),
        )
        epochs = "/".join(str(n) for n in sorted({metrics["epochs"] for metrics in seeds}))
        rows.append((name, str(len(seeds)), epochs, *cells, published.get(name, "not available")))
    return rows


def spread(values: list[float]) -> str:
    """`mean ± standard deviation`; of one value that value alone, of none a dash."""
    if not values:
        return "-"
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def as_markdown(rows: list[tuple[str, ...]]) -> str:
    """The table in Markdown."""
    lines = [HEADER, ("---", *["---:"] * (len(HEADER) - 2), "---"), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def print_table(rows: list[tuple[str, ...]]) -> None:
    """The table in the terminal."""
    from rich import box  # here, so that reading results needs no library
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD)
    for i, title in enumerate(HEADER):
        shown.add_column(title, justify="left" if i in (0, len(HEADER) - 1) else "right", overflow="fold")
    for row in rows:
        shown.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console.width = 160  # a pipe or a log has no width of its own
    console.print(shown)
