"""Bring a checkpoint of the authors' releases into this repository's format; `--help` says how."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from omegaconf import OmegaConf

from puzzlemix import cli, overrides
from puzzlemix.checkpoint import save_checkpoint
from puzzlemix.errors import InputError, require, require_choice
from puzzlemix.experiment import build_part, check_torchvision, compose
from puzzlemix.files import output_file, write_text
from puzzlemix.foreign_checkpoint import LOG, Claim, ForeignCheckpoint, claims_of_log, read_foreign

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
DATASETS = {10: "cifar10", 100: "cifar100", 200: "tiny_imagenet", 1000: "imagenet"}  # of the releases, by classes
LARGE = ("tiny_imagenet",)  # 64 x 64 pixels, for which the releases' main.py makes the stem's stride 2
NOT_SAID = ("mixup", "recipe", "seed")  # by the files


@cli.plain_script
@cli.helped_by_docstring
def main() -> None:
    """Bring a checkpoint of the authors' releases of Puzzle Mix or Co-Mixup into this repository's format.

    python scripts/import_checkpoint.py checkpoint.pth.tar --network preactresnet18
    python scripts/evaluate.py checkpoint=models/checkpoint.pt

        --network NAME    of configs/network; names and shapes of all its tensors must be the file's
        --dataset NAME    of configs/dataset; without it by the classes: cifar10, cifar100, tiny_imagenet, imagenet
        --output FILE     without it models/<name of the file>.pt; a JSON file with what the file claims goes beside it

    The file is read as data: nothing that it names is imported or called, and one that would run anything is refused.
    What it and a log.txt beside it claim of accuracies is printed as claims. They do not say in a form that could be
    trusted with which method, recipe and seed it was trained; the written config holds this repository's Puzzle Mix in
    their place, and lists them as not said.
    """
    options = arguments()
    check_torchvision()
    require_choice("--network", options.network, overrides.options(CONFIGS / "network"))
    path = Path(options.file)
    foreign = read_foreign(path)
    dataset = dataset_of(foreign, options.dataset)
    config = {"imported_from": {"file": path.name, "sha256": foreign.sha256, "does_not_say": [*NOT_SAID]}}
    config |= composed(options.network, dataset)
    check_classes(foreign, dataset, config["dataset"]["num_classes"])
    weights = foreign.weights_for(build_part(config["network"]))

    claims = foreign.claims() | claims_of_log(path.with_name(LOG))
    output = new_file(options.output, default=Path("models") / f"{stem(path)}.pt")
    card = {**config["imported_from"], "network": options.network, "dataset": dataset, "claims": claims}
    save_checkpoint(output, {"config": config, "network": weights})
    write_text(output.with_suffix(".json"), json.dumps(card, indent=2) + "\n")
    for line in told(claims):
        print(f"claims: {line}")
    print(output)


def arguments() -> argparse.Namespace:
    """Those of the command line.

    Raises:
        InputError: one is missing or unknown.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("file")
    parser.add_argument("--network", required=True)
    parser.add_argument("--dataset")
    parser.add_argument("--output")
    parser.error = refuse_arguments
    return parser.parse_args()


def refuse_arguments(message: str) -> NoReturn:
    raise InputError(f"{message}: see import_checkpoint.py --help")


def stem(path: Path) -> str:
    """`model_best.pth.tar` -> `model_best`."""
    return path.name.removesuffix(".tar").removesuffix(".pth").removesuffix(".pt")


def new_file(given: str | None, default: Path) -> Path:
    """Where the checkpoint goes, its card beside it.

    Raises:
        InputError: it cannot be written, or either is there.
    """
    output = output_file(given, default, (".pt",), key="--output")
    for path in (output, output.with_suffix(".json")):
        require(not path.exists(), f"{path} is there already: give another --output, or delete it")
    return output


def dataset_of(foreign: ForeignCheckpoint, given: str | None) -> str:
    """The dataset's name: as given, or by the number of classes.

    Raises:
        InputError: it is unknown, or no dataset of the releases has so many classes.
    """
    if given is not None:
        require_choice("--dataset", given, overrides.options(CONFIGS / "dataset"))
        return given
    classes = foreign.num_classes
    known = f"{foreign.path} tells {classes} classes apart, which no dataset of the releases has: give --dataset"
    require(classes in DATASETS, known)
    return DATASETS[classes]


def composed(network: str, dataset: str) -> dict[str, Any]:
    """What a run of this network on this dataset would have as its config, as far as an evaluation needs it.

    Raises:
        InputError: the dataset's file leaves the number of classes open.
    """
    config = compose(CONFIGS, [f"network={network}", f"dataset={dataset}", "mixup=puzzlemix"])
    open_ = OmegaConf.is_missing(config.dataset, "num_classes")
    require(not open_, f"configs/dataset/{dataset}.yaml is a pattern: copy it to NAME.yaml, fill it in, give that NAME")
    if dataset in LARGE and "stride" in config.network:
        config.network.stride = 2
    parts = ("dataset", "network", "mixup", "recipe")
    return {**{key: OmegaConf.to_container(config[key], resolve=True) for key in parts}, "seed": config.seed}


def check_classes(foreign: ForeignCheckpoint, dataset: str, classes: int) -> None:
    """Raise `InputError` unless the dataset has the classes of the file's last layer."""
    there = foreign.num_classes
    fitting = f", such as --dataset {DATASETS[there]}" if there in DATASETS else ""
    require(
        there == classes,
        f"{foreign.path} tells {there} classes apart, {dataset} has {classes}: give the dataset that it is of{fitting}",
    )


def told(claims: Mapping[str, Claim]) -> list[str]:
    """What the file claims of its training, in lines."""
    lines = []
    if trained := [f"{key} {claims[key]}" for key in ("arch", "epoch") if key in claims]:
        lines.append(", ".join(trained))
    if "last_accuracy" in claims:
        of = f"{claims['recorded_epochs']} of {claims['total_epochs']} epochs recorded"
        best = f"best {claims['best_accuracy']:.2f} % after {claims['best_accuracy_epochs']}"
        lines.append(f"{of}, accuracy {claims['last_accuracy']:.2f} % after the last of them, {best}")
    lines += [f"{key} {value:.2f} %" for key, value in claims.items() if key.startswith(("best_err", "best_prec"))]
    if "log_last" in claims:
        others = f"median of the last ten {claims['log_median10']:.2f} %, best {claims['log_best']:.2f} %"
        lines.append(
            f"{LOG}: {claims['log_epochs']} epochs, accuracy {claims['log_last']:.2f} % after the last, {others}"
        )
    attacked = {key: value for key, value in claims.items() if key.startswith("log_under ")}
    lines += [f"{LOG}: accuracy {key.removeprefix('log_')} {value:.2f} %" for key, value in attacked.items()]
    return lines or ["nothing"]


if __name__ == "__main__":
    main()
