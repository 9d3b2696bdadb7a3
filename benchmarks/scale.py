"""Seconds of a training epoch against the number of images, their size, the batch and the processes."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from matplotlib.figure import Figure

from benchmarks.training import on_photographs
from puzzlemix.reporting.pictures import save_picture
from puzzlemix.runtime.errors import RunError

ROOT = Path(__file__).resolve().parents[1]
TRAIN = ROOT / "scripts" / "train.py"
METHODS = ("vanilla", "puzzlemix")
CHANNELS = 16  # channels of the network's first stage
EPOCHS = 4  # the first warms up


class Load(NamedTuple):
    """The work of an epoch."""

    images: int = 2000
    pixels: int = 32  # per side
    batch: int = 100
    processes: int = 1  # each with one thread


BASE = Load()
SWEEPS: Mapping[str, Sequence[int]] = {  # only one of these changes at a time
    "images": (500, 1000, 2000, 4000),
    "pixels": (16, 32, 48, 64),
    "batch": (25, 50, 100, 200),
    "processes": (1, 2),
}
POWERS = {"images": 1, "pixels": 2, "batch": 0, "processes": -1}  # exponents of a time that is proportional to the work
HEADER = ("varied", *Load._fields, *(f"{method}, s" for method in METHODS), "times vanilla")


class Point(NamedTuple):
    """Seconds of an epoch of each of `METHODS` under a load, without the evaluation."""

    varied: str
    load: Load
    seconds: tuple[float, ...]

    def row(self) -> tuple[str, ...]:
        vanilla, puzzlemix = self.seconds
        return self.varied, *map(str, self.load), *(f"{s:.2f}" for s in self.seconds), f"{puzzlemix / vanilla:.2f}"


def benchmark(device: str, base: Load = BASE, sweeps: Mapping[str, Sequence[int]] = SWEEPS) -> Iterator[Point]:
    """Measure points, each by complete training programs in turn: medians of the epochs after the first."""
    for varied, values in sweeps.items():
        for value in values:
            load = base._replace(**{varied: value})
            yield Point(varied, load, tuple(_epoch_s(load, method, device) for method in METHODS))


def plot(points: Sequence[Point], path: Path) -> None:
    """Draw a panel for each sweep; a dashed line shows times proportional to the work, from vanilla's first.

    Raises:
        RunError: the picture cannot be written.
    """
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    sweeps = list(dict.fromkeys(point.varied for point in points))
    panels = figure.subplots(1, len(sweeps), sharey=True, squeeze=False)[0]
    for ax, varied in zip(panels, sweeps, strict=True):
        own = [point for point in points if point.varied == varied]
        x = [getattr(point.load, varied) for point in own]
        for method, seconds in zip(METHODS, zip(*(point.seconds for point in own), strict=True), strict=True):
            ax.plot(x, seconds, marker="o", label=method)
        proportional = [own[0].seconds[0] * (value / x[0]) ** POWERS[varied] for value in x]
        ax.plot(x, proportional, color="0.6", ls="--", label="in proportion")
        ax.set_xscale("log", base=2)
        ax.set_yscale("log", base=2)
        ax.set_xticks(x, [str(v) for v in x], minor=False)
        ax.yaxis.set_major_formatter("{x:.3g}")
        ax.set_xlabel(f"{varied} a side" if varied == "pixels" else varied)
    figure.axes[0].set_ylabel("s / epoch")
    figure.axes[0].legend(fontsize=8)
    save_picture(figure, path)


def _epoch_s(load: Load, method: str, device: str) -> float:
    """Seconds of an epoch, from a training of a few epochs; raises `RunError` if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={load.processes}"]
        run = on_photographs(load.images, load.pixels, load.batch, CHANNELS)
        run += [f"mixup={method}", f"recipe.epochs={EPOCHS}", "attack=none", f"device={device}"]
        command = [sys.executable, *(launcher if load.processes > 1 else ()), str(TRAIN), *run]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])  # benchmarks/ is in ROOT
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        done = subprocess.run([*command, f"results_dir={folder}"], env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            last_words = done.stderr[-500:] or done.stdout[-500:]
            raise RunError(f"{' '.join(command)} ended with {done.returncode}: {last_words}")
        (log,) = Path(folder).rglob("log.jsonl")
        seconds = [json.loads(line)["seconds"] for line in log.read_text().splitlines()]
    return median(epoch["total"] - epoch["evaluation"] for epoch in seconds[1:])
