"""A program that measures what training costs, and what exact masks and plans cost and gain; prints a Markdown table.

    python -m benchmarks training    # milliseconds of each part of a step, with every setting of arithmetic
    python -m benchmarks training --methods=augmix --settings=default    # the same for another method and one setting
    python -m benchmarks scale       # seconds of an epoch against images, pixels, batch and processes; also a picture
    python -m benchmarks data        # images per second, here and with torchvision's DataLoader
    python -m benchmarks mixing      # milliseconds of each part of mixing, with both solvers
    python -m benchmarks solvers     # masks: the released search against the least energy
    python -m benchmarks transport   # plans: the released auction against the least cost

The first four measure on photographs and digits. `mixing` takes the parameters of the recipes for CIFAR-100 (32 x 32
pixels, where cells of 4 pixels move), Tiny-ImageNet and ImageNet. The last two measure on photographs of 64 x 64
pixels, or with --checkpoint on the dataset of that run.
"""

import argparse
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import data, mixing, plans, scale, solvers, training
from benchmarks.pairs import Pairs, of_checkpoint, pairs_of_photographs
from puzzlemix.cli import overrides
from puzzlemix.cli.config import compose, plain
from puzzlemix.cli.script import plain_script
from puzzlemix.mixing.puzzle import PuzzleParameters
from puzzlemix.runtime import distributed
from puzzlemix.runtime.errors import require, require_choice
from puzzlemix.runtime.files import output_file

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
MODULES = {
    "training": training,
    "scale": scale,
    "data": data,
    "mixing": mixing,
    "solvers": solvers,
    "transport": plans,
}


@plain_script
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=MODULES)
    parser.add_argument("--repeats", type=int, default=15, help="measurements for each row of training, data, mixing")
    parser.add_argument("--checkpoint", help="results/runs/NAME/seed0/checkpoints/last.pt")
    parser.add_argument(
        "--methods", default="puzzlemix", help="for training: in configs/mixup/, each perhaps with overrides after it"
    )
    parser.add_argument("--channels", type=int, help="for training: initial channels of the larger network")
    parser.add_argument(
        "--settings", default="", help="for training: such as default,bf16; empty for all; plain comes first"
    )
    parser.add_argument("--batches", type=int, default=20, help="batches of 100 images of the checkpoint's dataset")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--picture", default="training_scale.png", help="for scale: the file of the picture")
    options = parser.parse_args()
    require(options.repeats >= 1 and options.batches >= 1, "--repeats and --batches must be at least 1")
    options.device = distributed.pick_device(options.device).type
    for method in options.methods.split(","):
        require_choice("method", method.partition(" ")[0], overrides.options(CONFIGS / "mixup"))
    if options.what == "scale":  # checked now, before hours are spent
        options.picture = output_file(options.picture, None, (".png",), key="--picture")
    print(f"`python -m benchmarks {' '.join(sys.argv[1:])}` ({machine(options.device)})\n")
    header = MODULES[options.what].HEADER
    print("| " + " | ".join(header) + " |\n|" + "---:|" * len(header))
    for row in rows(options):
        print("| " + " | ".join(row) + " |", flush=True)


def rows(options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """The rows of the table that the user asked for."""
    if options.what == "training":
        methods, settings = options.methods.split(","), [name for name in options.settings.split(",") if name]
        return training.benchmark(composed, options.device, options.repeats, methods, settings, options.channels)
    if options.what == "data":
        return data.benchmark(options.device, options.repeats)
    if options.what == "scale":
        return scale_rows(options.device, options.picture)
    if options.what == "mixing":
        batches = (pairs_of_photographs(*setting, options.device) for setting in mixing.SETTINGS)
        return mixing.benchmark(batches, options.repeats)
    return MODULES[options.what].compare(pairs(options))


def scale_rows(device: str, picture: Path) -> Iterator[tuple[str, ...]]:
    """The rows of `scale`; its picture is drawn after the last one."""
    points = []
    for point in scale.benchmark(device):
        points.append(point)
        yield point.row()
    scale.plot(points, picture)


def pairs(options: argparse.Namespace) -> Iterable[Pairs]:
    """Batches of a checkpoint's dataset, or one batch of photographs."""
    if options.checkpoint:
        return of_checkpoint(options.checkpoint, CONFIGS, options.batches, options.device)
    return [pairs_of_photographs(100, 64, PuzzleParameters(), options.device)]


def composed(changes: Sequence[str]) -> dict[str, Any]:
    """The config of `scripts/train.py` with these overrides."""
    return plain(compose(CONFIGS, [*changes, "choices.network=any", "choices.mixup=any"]))


def machine(device: str) -> str:
    """The machine that measures, in words."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


if __name__ == "__main__":
    main()
