"""Measure what Puzzle Mix's steps cost and what its exact versions gain; prints a Markdown table.

    python scripts/benchmark.py mixing      # milliseconds, beside a plain reference
    python scripts/benchmark.py solvers     # masks: the released search against the least energy
    python scripts/benchmark.py transport   # plans: the released auction against the least cost

The first measures on photographs, with the parameters of the recipes for CIFAR-100 (32 x 32 pixels, where cells of 4
pixels move), Tiny-ImageNet and ImageNet; the others on 64 x 64 pixels, or on the dataset of a run whose checkpoint is
given.
"""

import argparse
import platform
import sys

import torch

from puzzlemix.benchmarks import mixing, plans, solvers
from puzzlemix.benchmarks.pairs import of_checkpoint, photographs
from puzzlemix.errors import InputError
from puzzlemix.mixing.puzzle_parameters import PuzzleParameters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["mixing", "solvers", "transport"])
    parser.add_argument("--repeats", type=int, default=15, help="of each measurement of milliseconds in mixing")
    parser.add_argument("--checkpoint", help="results/runs/NAME/seed0/checkpoints/last.pt")
    parser.add_argument("--batches", type=int, default=20, help="of 100 images of the checkpoint's dataset")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.repeats < 1 or options.batches < 1:
        sys.exit("error: --repeats and --batches must be at least 1")
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"`python scripts/benchmark.py {' '.join(sys.argv[1:])}` ({machine})\n")
    try:
        if options.what == "mixing":
            batches = (photographs(*setting, options.device) for setting in mixing.SETTINGS)
            header, rows = mixing.HEADER, mixing.benchmark(batches, options.repeats)
        else:
            if options.checkpoint:
                batches = of_checkpoint(options.checkpoint, options.batches, options.device)
            else:
                batches = [photographs(100, 64, PuzzleParameters(), options.device)]
            module = {"solvers": solvers, "transport": plans}[options.what]
            header, rows = module.HEADER, module.compare(batches)
        print("| " + " | ".join(header) + " |\n|" + "---:|" * len(header))
        for row in rows:
            print("| " + " | ".join(row) + " |", flush=True)
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
