"""Evaluate a checkpoint, clean and under attack.

python scripts/evaluate.py checkpoint=results/runs/NAME/seed0/checkpoints/last.pt attack=fgsm,pgd
"""

import json

from omegaconf import DictConfig

from puzzlemix import cli, distributed
from puzzlemix.arithmetic import compute_in_float32
from puzzlemix.checkpoint import beside, trained_epochs
from puzzlemix.evaluation import attack_errors, check_evaluation, clean_errors
from puzzlemix.experiment import check_torchvision, load_experiment, plain
from puzzlemix.files import output_file, write_text


@cli.script("evaluate")
def main(config: DictConfig) -> None:
    check_torchvision()
    config = plain(config)
    device = distributed.join(config["device"])
    compute_in_float32()
    batch_size, attacks = config["test_batch_size"], config["attack"]
    check_evaluation(batch_size, attacks)
    data, network, *_ = load_experiment(config["checkpoint"], device)
    output = output_file(config["output"], default=beside(config["checkpoint"], "evaluation.json"))
    errors = clean_errors(network, data, batch_size)
    errors |= attack_errors(network, data, batch_size, attacks, config["seed"])
    if distributed.is_main():
        content = {"checkpoint": config["checkpoint"], "evaluated_on": data.evaluated_on, **errors}
        content["epochs"] = trained_epochs(config["checkpoint"])
        write_text(output, json.dumps(content | {"attacks": attacks, "seed": config["seed"]}, indent=2) + "\n")
        for name, error in errors.items():
            print(f"{name:24}{error:6.2f} %")
        print(f"{output}")


if __name__ == "__main__":
    main()
