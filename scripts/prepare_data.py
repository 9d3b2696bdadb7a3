"""Prepare a dataset for training: read it as it was published, check it, and write it below data/.

python scripts/prepare_data.py dataset=cifar100
python scripts/prepare_data.py dataset=tiny_imagenet source=tiny-imagenet-200.zip
python scripts/prepare_data.py dataset=image_folder source=FOLDER dataset.name=flowers
python scripts/prepare_data.py dataset=imagenet source=FOLDER

Make a set of corrupted test images of a dataset that is prepared, where the released one is not at hand:

python scripts/prepare_data.py dataset=cifar100 corruptions=all
"""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from puzzlemix import cli
from puzzlemix.corruptions.generate import generate
from puzzlemix.corruptions.names import RELEASED
from puzzlemix.corruptions.sets import regenerated_folder
from puzzlemix.data.arrays import ArrayData
from puzzlemix.data.cifar import read_cifar
from puzzlemix.data.first_classes import FirstClasses
from puzzlemix.data.image_folder import channel_statistics, read_image_folder
from puzzlemix.data.npz import Arrays, write_arrays
from puzzlemix.data.resized_copies import resized_folder, write_resized_copies
from puzzlemix.data.tiny_imagenet import read_tiny_imagenet
from puzzlemix.errors import require
from puzzlemix.experiment import build_part, check_torchvision, plain


@cli.script("prepare_data")
def main(config: DictConfig) -> None:
    check_torchvision()
    if OmegaConf.is_missing(config.dataset, "num_classes"):
        config.dataset.num_classes = None  # as many as one's own images have
    config = plain(config)
    data = build_part(config["dataset"])
    source = None if config["source"] is None else Path(config["source"]).expanduser()
    if config["corruptions"] is not None:
        require(source is None, "corruptions are of a dataset that is prepared: leave out source=")
        prepare_corruptions(data, config["corruptions"], config["seed"], config["force"])
        return
    of_others = isinstance(data, FirstClasses)
    require(not of_others, f"{data.name} is read from {data.folder}: give dataset={data.folder.name}, which makes that")
    match HydraConfig.get().runtime.choices["dataset"]:
        case "digits":
            require(source is None, "digits come with scikit-learn: nothing is read from source=")
            print("digits: nothing to prepare, scikit-learn has them")
        case "imagenet":
            prepare_folders(data, source, config["force"])
        case "cifar10" | "cifar100" as name:
            raw = source or data.folder.parent / "raw"
            prepare_arrays(data, lambda: read_cifar(name, raw, config["download"]), config["force"])
        case "tiny_imagenet":
            raw = source or data.folder.parent / "raw" / "tiny-imagenet-200.zip"
            prepare_arrays(data, lambda: read_tiny_imagenet(raw, config["class_order"]), config["force"])
        case _:
            check_source(data, source, config["force"])
            train = prepare_arrays(data, lambda: read_own_images(data, source, config), config["force"])
            if source is not None:
                source_record(data).write_text(str(source.resolve()))
            print("train with: " + training_command(data, train))


def prepare_corruptions(data: Any, wanted: Any, seed: int, force: bool) -> None:
    """Write the test images under the corruptions of `all`, `fog` or `[fog,frost]`, unless they are there."""
    require(wanted != [], "corruptions must be all, or such as [fog,frost]")
    names = wanted if isinstance(wanted, list) else RELEASED if wanted == "all" else [wanted]
    made = generate(data, [str(name) for name in names], seed, force)
    prepared = "prepared" if made else "prepared before (again: force=true)"
    print(f"{regenerated_folder(data)}: {prepared}, {len(names)} corruptions of the test images at 5 severities")


def prepare_arrays(data: ArrayData, read: Callable[[], tuple[Arrays, Arrays]], force: bool) -> Arrays:
    """Write both splits that `read` gives, unless they are there, whole. Returns the training images."""
    paths = [data.folder / f"{split}.npz" for split in ("train", "test")]
    there = all(path.is_file() for path in paths) and not force
    train, test = (data.read("train"), data.read("test")) if there else read()
    data.num_classes = data.num_classes or len(train.classes)
    data.check(train, test, remedy="prepare it again with force=true" if there else "look what source= holds")
    if not there:
        for path, split in zip(paths, (train, test), strict=True):
            write_arrays(path, split)
    counts = f"{len(train.y)} training and {len(test.y)} test images of {data.num_classes} classes"
    print(f"{data.folder}: {'prepared before (again: force=true)' if there else 'prepared'}, {counts}")
    return train


def read_own_images(data: ArrayData, source: Path | None, config: Mapping[str, Any]) -> tuple[Arrays, Arrays]:
    """Training and test images of an image folder."""
    require(source is not None, "source must be given: add source=FOLDER, which holds <class>/ with your images")
    return read_image_folder(source, data.image_size, config["test_share"], config["seed"])


def check_source(data: ArrayData, source: Path | None, force: bool) -> None:
    """Raise `InputError` where other images than those of this source were prepared under the name."""
    record = source_record(data)
    if source is not None and record.is_file() and not force:
        before = record.read_text()
        same = before == str(source.resolve())
        require(same, f"{data.folder} was prepared from {before}: give another dataset.name=, or force=true")


def source_record(data: ArrayData) -> Path:
    """The file that says where a dataset's images came from."""
    return data.folder / "source.txt"


def training_command(data: ArrayData, train: Arrays) -> str:
    """What trains on one's own images, with what the config cannot know of them."""
    mean, std = channel_statistics(train.x)
    lists = {"image_size": data.image_size, "mean": mean, "std": std}
    keys = {"name": data.name, "root": data.folder.parent, "num_classes": data.num_classes}
    keys |= {key: f"[{','.join(map(str, values))}]" for key, values in lists.items()}
    overrides = [f"dataset.{key}={value}" for key, value in keys.items()]
    return shlex.join(["python", "scripts/train.py", "dataset=image_folder", *overrides])


def prepare_folders(data: Any, source: Path | None, force: bool) -> None:
    """Link a source's folders to where training looks for them, and write the resized copies unless they are there."""
    for split in ("train", "val"):
        link = data.folder / split
        if source is not None and not link.exists():
            require(
                (source / split).is_dir(), f"{source / split} is not there: give the folder that holds train/ and val/"
            )
            data.folder.mkdir(parents=True, exist_ok=True)
            link.symlink_to((source / split).resolve())
    data.load(torch.device("cpu"))
    for short_side in (352, 160):  # what recipe=imagenet_fast reads
        copies = resized_folder(data.folder, short_side)
        there = copies.is_dir()
        require(not (there and force), f"{copies} is there: delete it, and it is written again")
        if not there:
            write_resized_copies(data.folder / "train", copies, short_side)
        print(f"{copies}: {'prepared before' if there else 'prepared'}")


if __name__ == "__main__":
    main()
