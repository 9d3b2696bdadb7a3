"""From one table of collected numbers (`numbers.csv`) to the files of `results/paper/`, once and reproducibly.

The table has the columns source_id, source, dataset, architecture, epochs, method, variant, metric, value, unit,
statistic, verified_where, note. Nothing is left out and no number is changed; what is added is the number of the table
in its source, where the note has it, and which of our experiments reproduces the row.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from puzzlemix.reporting.published import DATASETS, METHODS, NETWORKS, Published, checked, read_table, write_published

COLUMNS = (
    *("source_id", "source", "dataset", "architecture", "epochs", "method", "variant"),
    *("metric", "value", "unit", "statistic", "verified_where", "note"),
)
FILES = {  # by how source_id begins
    "puzzlemix": "authors.csv",
    "openmixup": "openmixup.csv",
    "cvlab_yonsei": "mixing_augmentation.csv",
    "": "others.csv",
}
IMAGENET = {  # what the authors' two trainings on ImageNet are called
    "300": "imagenet_resnet50_puzzlemix_300",
    "100": "imagenet_resnet50_puzzlemix_fast",
}
AUGMIX = "cifar100_wrn28_10_puzzlemix_augmix"  # the paper's only numbers with AugMix are of CIFAR-100 and this network
QUOTED = {  # numbers of the paper's tables that other papers print, by source and epochs
    ("saliencymix_paper", "200"): "cifar100_wrn28_10_puzzlemix_half",
    ("resizemix_readme", ""): "cifar100_wrn28_10_puzzlemix",
}


def split_collected(source: Path, folder: Path) -> dict[Path, int]:
    """Write the files of `results/paper/`; how many rows each has.

    Raises:
        InputError: the source is not such a table, or a row is damaged; no file is written.
        RunError: a file cannot be written.
    """
    files = defaultdict(list)
    for line, row in enumerate(read_table(source, COLUMNS), 2):
        name = next(file for start, file in FILES.items() if row["source_id"].startswith(start))
        files[folder / name].append(published_of(row, f"{source}, row {line}"))
    for path, rows in files.items():
        write_published(path, rows)
    return {path: len(rows) for path, rows in files.items()}


def published_of(row: Mapping[str, str], where: str) -> Published:
    """A row of the collected table as one of ours; `where` is it, for messages.

    Raises:
        InputError: a value is missing or wrong.
    """
    table = re.match(r"(?:README row marked \[)?Table (\d+)", row["note"])
    same = ("source_id", "source", "dataset", "epochs", "method", "variant", "metric", "value", "unit", "statistic")
    ours = {
        "experiment": _experiment(row),
        "table": table.group(1) if table else "",
        "network": row["architecture"],
        "seen_in": row["verified_where"],
        "note": row["note"],
    }
    return checked(ours | {name: row[name] for name in same}, where)


def _experiment(row: Mapping[str, str]) -> str:
    """The experiment that has this number's very setting: numbers of Puzzle Mix from the authors or their paper."""
    variant, puzzle_mix = row["variant"], row["method"] == METHODS["puzzlemix"]
    if puzzle_mix and row["architecture"] == NETWORKS["wrn28_10"] and (row["source_id"], row["epochs"]) in QUOTED:
        return QUOTED[row["source_id"], row["epochs"]]
    authors = puzzle_mix and row["source_id"].startswith("puzzlemix")
    if authors and "AugMix" in variant:
        return AUGMIX
    if not authors or "Apex" in variant or not row["epochs"]:
        return ""
    if row["dataset"] == DATASETS["imagenet"]:
        return IMAGENET.get(row["epochs"], "")
    printed = (
        (DATASETS, row["dataset"].removesuffix("-C")),
        (NETWORKS, row["architecture"]),
    )  # -C: corrupted images of it
    dataset, network = (
        next((ours for ours, theirs in names.items() if theirs == name), None) for names, name in printed
    )
    adversarial = "_adversarial" if variant.startswith("adv") else ""
    return f"{dataset}_{network}_puzzlemix{adversarial}" if dataset and network else ""
