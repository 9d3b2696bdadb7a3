"""Bring a checkpoint of the authors' releases of Puzzle Mix or Co-Mixup into this repository's format.

python scripts/import_checkpoint.py checkpoint.pth.tar --network preactresnet18
python scripts/evaluate.py checkpoint=models/checkpoint.pt

The file is read as data: nothing that it names is imported or called, and one that would run anything is refused.
The accuracies that it claims are printed as claims. It does not say which method, recipe and seed trained the network.
The written config has this repository's Puzzle Mix instead, and lists the three under `does_not_say`.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from omegaconf import OmegaConf

from puzzlemix.cli import overrides
from puzzlemix.cli.config import build_part, compose
from puzzlemix.cli.script import plain_script
from puzzlemix.runtime.checkpoint import load_weights, save_checkpoint
from puzzlemix.runtime.errors import InputError, require, require_choice
from puzzlemix.runtime.files import output_file, write_text
from puzzlemix.training.release_checkpoint import BEST, Claim, read_release_checkpoint
from startup import CONFIGS

DATASETS = {10: "cifar10", 100: "cifar100", 200: "tiny_imagenet", 1000: "imagenet"}  # of the releases, by class count
LARGE = ("tiny_imagenet",)  # 64 x 64 pixels: the releases' main.py gives the stem a stride of 2
NOT_SAID = ("mixup", "recipe", "seed")  # what the releases' files do not say


@plain_script
def main() -> None:
    options = arguments()
    require_choice("--network", options.network, overrides.options(CONFIGS / "network"))
    path = Path(options.file)
    release = read_release_checkpoint(path)
    dataset = dataset_for(release.num_classes, options.dataset)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    config = {"imported_from": {"file": path.name, "sha256": sha256, "does_not_say": [*NOT_SAID]}}
    config |= composed(options.network, dataset)
    classes, remedy = config["dataset"]["num_classes"], "give the --dataset that it belongs to"
    fits = classes == release.num_classes
    require(fits, f"{path} has {release.num_classes} classes, {dataset} has {classes}: {remedy}")
    network = build_part(config["network"])
    load_weights(network, release.weights, path, remedy="give the --network that it belongs to")

    output = new_file(options.output, default=Path("models") / f"{stem(path)}.pt")
    card = {**config["imported_from"], "network": options.network, "dataset": dataset, "claims": release.claims}
    save_checkpoint(output, {"config": config, "network": network.state_dict()})
    write_text(output.with_suffix(".json"), json.dumps(card, indent=2) + "\n")
    for line in lines_of(release.claims):
        print(f"claims: {line}")
    print(output)


def arguments() -> argparse.Namespace:
    """The arguments of the command line; raises `InputError` if one is missing or unknown."""
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written, allow_abbrev=False)
    parser.add_argument("file")
    parser.add_argument("--network", required=True, help="name in configs/network, with all tensors of the file")
    parser.add_argument("--dataset", help="name in configs/dataset; default: by the number of classes")
    parser.add_argument("--output", help="default: models/<name of the file>.pt; its claims go into a JSON file there")
    parser.error = refuse_arguments
    return parser.parse_args()


def refuse_arguments(message: str) -> NoReturn:
    raise InputError(f"{message}: see import_checkpoint.py --help")


def stem(path: Path) -> str:
    """`model_best.pth.tar` -> `model_best`."""
    return path.name.removesuffix(".tar").removesuffix(".pth").removesuffix(".pt")


def new_file(given: str | None, default: Path) -> Path:
    """The file for the checkpoint; raises `InputError` if it or its card exists, or cannot be written."""
    output = output_file(given, default, (".pt",), key="--output")
    for path in (output, output.with_suffix(".json")):
        require(not path.exists(), f"{path} already exists: give another --output, or delete it")
    return output


def dataset_for(classes: int, given: str | None) -> str:
    """The dataset's name: as given, or by the number of classes.

    Raises:
        InputError: it is unknown, or no dataset of the releases has this number of classes.
    """
    if given is not None:
        require_choice("--dataset", given, overrides.options(CONFIGS / "dataset"))
        return given
    require(classes in DATASETS, f"no dataset of the releases has {classes} classes: give --dataset")
    return DATASETS[classes]


def composed(network: str, dataset: str) -> dict[str, Any]:
    """The config of a run of this network on this dataset, as far as an evaluation needs it.

    Raises:
        InputError: the dataset's file does not say the number of classes.
    """
    config = compose(CONFIGS, [f"network={network}", f"dataset={dataset}", "mixup=puzzlemix"])
    pattern = f"configs/dataset/{dataset}.yaml is a template: copy it to NAME.yaml, fill it in, give that NAME"
    require(not OmegaConf.is_missing(config.dataset, "num_classes"), pattern)
    if dataset in LARGE and "stride" in config.network:
        config.network.stride = 2
    parts = ("dataset", "network", "mixup", "recipe")
    return {**{key: OmegaConf.to_container(config[key], resolve=True) for key in parts}, "seed": config.seed}


def lines_of(claims: Mapping[str, Claim]) -> list[str]:
    """The file's claims about its training, as lines of text."""
    lines = []
    if trained := [f"{key} {claims[key]}" for key in ("arch", "epoch") if key in claims]:
        lines.append(", ".join(trained))
    if "last_accuracy" in claims:
        of_last = f"accuracy {claims['last_accuracy']:.2f} % after the last of {claims['recorded_epochs']} epochs"
        lines.append(f"{of_last}, {claims['best_accuracy']:.2f} % after the best")
    lines += [f"{key} {claims[key]:.2f} %" for key in BEST if key in claims]
    return lines or ["nothing"]


if __name__ == "__main__":
    main()
