"""Kill a run of digits at random moments, start it again each time, and compare it with one that was never killed.

    python scripts/soak.py                          # 20 kills of one process, some minutes
    python scripts/soak.py --processes=2 --kills=10
    python scripts/soak.py --epochs=200 mixup=puzzlemix_adversarial mixup.adv_p=0.5

Further arguments are overrides of scripts/train.py. Ends with status 1 where the two differ in a bit.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from puzzlemix import cli
from puzzlemix.errors import RunError, require
from puzzlemix.soak import differences, kill_and_restart

TRAIN = Path(__file__).with_name("train.py")


@cli.plain_script
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options, overrides = parser.parse_known_args()
    require(options.kills >= 1 and options.processes >= 1, "--kills and --processes must be at least 1")
    with tempfile.TemporaryDirectory() as folder:
        soak(Path(folder), options, overrides)


def soak(results: Path, options: argparse.Namespace, overrides: list[str]) -> None:
    """Train two runs, one of them killed, and print or raise in what they differ."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={options.processes}"]
    run = [sys.executable, *(launcher if options.processes > 1 else ()), str(TRAIN), f"results_dir={results}"]
    run += ["mixup=puzzlemix", "device=cpu", "attack=fgsm", f"recipe.epochs={options.epochs}", *overrides]
    killed, reference = (results / name / "seed0" for name in ("killed", "reference"))
    kill_and_restart([*run, "name=killed"], killed, options.kills, options.seed, lambda line: print(line, flush=True))
    kill_and_restart([*run, "name=reference"], reference, 0, options.seed, print)
    found = differences(killed, reference)
    if found:
        raise RunError(f"{len(found)} differences after {options.kills} kills: {', '.join(found[:5])}")
    print(f"no difference after {options.kills} kills: weights, optimiser, log and errors are the same to the last bit")


if __name__ == "__main__":
    main()
