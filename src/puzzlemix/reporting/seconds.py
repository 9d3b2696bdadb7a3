"""Where the seconds of an epoch go, as a table: what saliency and mixing cost beside the network's own pass."""

from __future__ import annotations

from collections.abc import Mapping

from puzzlemix.reporting.runs import Row
from puzzlemix.reporting.tables import Table
from puzzlemix.runtime.stopwatch import PARTS

HEADER = ("run", "seeds", *PARTS, "total", "saliency and mixing, % of training", "images / s")


def seconds_table(name: str, rows: Mapping[str, Row]) -> Table | None:
    """Seconds of an epoch by part, the median of its epochs; None where no run is finished.

    Args:
        name: of the table that the rows stand in.
        rows: by what they are called there.
    """
    cells = [_cells(label, row) for label, row in rows.items() if row.finished]
    return Table(f"{name}, seconds of an epoch", HEADER, cells) if cells else None


def _cells(label: str, row: Row) -> tuple[str, ...]:
    seconds = row.seconds
    training_s = seconds["total"] - seconds["evaluation"]
    mixing_s = seconds["saliency"] + seconds["mixing"]
    images = next((images for run in row.finished for images in run.logged("images").values()), 0)  # of an epoch
    return (
        label,
        str(len(row.finished)),
        *(f"{seconds[part]:.2f}" for part in (*PARTS, "total")),
        f"{100 * mixing_s / training_s:.1f}" if training_s else "-",
        f"{images / training_s:.0f}" if training_s and images else "-",
    )
