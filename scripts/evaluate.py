"""Evaluate a checkpoint: errors on clean, attacked and corrupted images, calibration, and checks of the attacks.

python scripts/evaluate.py checkpoint=results/runs/NAME/seed0/checkpoints/last.pt suite=paper
python scripts/evaluate.py checkpoint=models/NAME.pt suite=full test_batch_size=500
python scripts/evaluate.py checkpoint=models/NAME.pt attack=fgsm,pgd

The same command continues an evaluation that was stopped, with the measures that are missing.
"""

from startup import CONFIGS, hold_signals

if __name__ == "__main__":
    hold_signals()

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from puzzlemix.cli.config import load_experiment, plain
from puzzlemix.cli.script import script, warn
from puzzlemix.data.corrupted import CorruptedImages, open_corrupted, released_folder
from puzzlemix.evaluation.auto_attack import auto_attack, check_auto_attack
from puzzlemix.evaluation.calibration import calibration
from puzzlemix.evaluation.corrupted import corruption_errors
from puzzlemix.evaluation.evaluator import Evaluator, attack_errors, check_evaluation, clean_errors, train_error
from puzzlemix.evaluation.results import earlier_evaluation, failed_checks, results_path, summary
from puzzlemix.evaluation.self_checks import self_checks, zero_gradients
from puzzlemix.runtime import distributed
from puzzlemix.runtime.checkpoint import digest
from puzzlemix.runtime.environment import environment
from puzzlemix.runtime.errors import printable, require, require_whole
from puzzlemix.runtime.files import output_file, write_text
from puzzlemix.training.precision import Arithmetic


@script("evaluate")
def main(config: DictConfig) -> None:
    config = plain(config)
    device = distributed.join(config["device"])
    ran_on = environment()  # read now, since files and commit may change before the last attack ends
    require_whole("seed", config["seed"], least=0)
    check_evaluation(config["test_batch_size"], config["attack"])
    (data, network, *_), epochs = load_experiment(config["checkpoint"], CONFIGS, device)
    check_auto_attack(**config["auto_attack"], classes=data.num_classes)
    Arithmetic().prepare(network)
    torch.backends.cudnn.benchmark = False  # after a kill, other kernels may be the fastest
    corrupted = corrupted_images(config["corruptions"], data)
    output = output_file(config["output"], default=results_path(config["checkpoint"]), endings=(".json",))

    of = {"weights": digest(network), "evaluated_on": data.evaluated_on, "seed": config["seed"]}
    earlier_evaluation(output, **of)  # raises if it holds results of another seed
    unfinished = output.with_name(f"{output.stem}_unfinished.json")
    evaluator = Evaluator(network, data, config["test_batch_size"], config["seed"]).keeping(unfinished, of["weights"])
    results = {**of, "epochs": epochs, **measure(evaluator, corrupted, config)}
    if distributed.is_main():
        results |= {"checkpoint": config["checkpoint"], "test_batch_size": config["test_batch_size"], **ran_on}
        earlier = earlier_evaluation(output, **of)  # read now, since another evaluation may have ended meanwhile
        results = {**earlier, **results, "attacks": earlier.get("attacks", {}) | results["attacks"]}
        results["self_checks"] = self_checks(results)
        write_text(output, json.dumps(results, indent=2) + "\n")
        show(results)
        print(f"{output}")
    evaluator.kept.remove()
    distributed.wait_for_all()


def measure(evaluator: Evaluator, corrupted: CorruptedImages | None, config: Mapping[str, Any]) -> dict[str, Any]:
    """Measure all that the config asks for, the longest part last; errors are in percent."""
    results = clean_errors(evaluator) | attack_errors(evaluator, config["attack"])
    results |= {"attacks": config["attack"], "zero_gradients": zero_gradients(evaluator)}
    results["calibration"] = calibration(evaluator)
    if config["train_images"]:
        results["train_error"] = train_error(evaluator)
    if corrupted is not None:
        results["corruptions"] = corruption_errors(evaluator, corrupted)
    if config["auto_attack"]["eps_255"] is not None:
        results["auto_attack"] = auto_attack(evaluator, **config["auto_attack"])
    return results


def corrupted_images(wanted: str | None, data: Any) -> CorruptedImages | None:
    """The set of corrupted images that the config asks for, with a warning if it is missing or incomplete."""
    if wanted is None:
        return None
    require(isinstance(wanted, str), f"corruptions must be auto or the folder of a set, not {wanted}")
    folder = released_folder(data) if wanted == "auto" else Path(wanted).expanduser()
    if folder is None:
        warn_once(
            f"there are no corrupted images of {data.name}, so none are measured: give corruptions=FOLDER of a set"
        )
        return None
    images = open_corrupted(folder, data)
    if images.missing:
        warn_once(f"{folder} lacks {', '.join(images.missing)}: the rest is measured")
    return images


def warn_once(problem: str) -> None:
    """Write a warning to stderr, on the first process only."""
    if distributed.is_main():
        warn([problem])


def show(results: dict[str, Any]) -> None:
    """Print a line for each number, and a warning for each check that fails."""
    for title, value in summary(results).items():
        print(printable(f"{title:32}{value}"))  # an earlier evaluation's names come from a file
    warn(failed_checks(results))


if __name__ == "__main__":
    main()
