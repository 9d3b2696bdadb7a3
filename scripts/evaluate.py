"""Evaluate a checkpoint, clean and under attack.

python scripts/evaluate.py checkpoint=results/runs/NAME/seed0/checkpoints/last.pt attack=fgsm,pgd
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from puzzlemix import cli, distributed
from puzzlemix.arithmetic import compute_in_float32
from puzzlemix.checkpoint import beside
from puzzlemix.evaluation import attack_errors, check_evaluation, clean_errors
from puzzlemix.experiment import check_torchvision, load_experiment, plain
from puzzlemix.files import output_file, write_text
from puzzlemix.reporting.run_files import read_attacks

SAME = ("checkpoint", "epochs", "evaluated_on", "seed", "top1_error", "top5_error")  # of one network and its images


@cli.script("evaluate")
def main(config: DictConfig) -> None:
    check_torchvision()
    config = plain(config)
    device = distributed.join(config["device"])
    compute_in_float32()
    batch_size, attacks = config["test_batch_size"], config["attack"]
    check_evaluation(batch_size, attacks)
    (data, network, *_), epochs = load_experiment(config["checkpoint"], device)
    output = output_file(config["output"], default=beside(config["checkpoint"], "evaluation.json"))
    errors = clean_errors(network, data, batch_size)
    errors |= attack_errors(network, data, batch_size, attacks, config["seed"])
    if distributed.is_main():
        content = {"checkpoint": config["checkpoint"], "evaluated_on": data.evaluated_on, **errors}
        content |= {"epochs": epochs, "attacks": attacks, "seed": config["seed"]}
        write_text(output, json.dumps(with_earlier_attacks(content, output), indent=2) + "\n")
        for name, error in errors.items():
            print(f"{name:24}{error:6.2f} %")
        print(f"{output}")


def with_earlier_attacks(content: Mapping[str, Any], output: Path) -> dict[str, Any]:
    """An evaluation with the attacks of the one that the file holds, if that was of the same network and images."""
    earlier = read_attacks(output)
    if any(earlier.get(key) != content[key] for key in SAME):
        return dict(content)
    return {**earlier, **content, "attacks": {**earlier["attacks"], **content["attacks"]}}


if __name__ == "__main__":
    main()
