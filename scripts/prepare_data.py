"""Prepare a dataset for training: read it as it was published, check it, and write it into data/.

python scripts/prepare_data.py dataset=cifar100
python scripts/prepare_data.py dataset=tiny_imagenet source=tiny-imagenet-200.zip
python scripts/prepare_data.py dataset=image_folder source=FOLDER dataset.name=flowers
python scripts/prepare_data.py dataset=imagenet source=FOLDER
"""

from startup import hold_signals

if __name__ == "__main__":
    hold_signals()

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from puzzlemix.cli.config import build_part, plain
from puzzlemix.cli.script import script
from puzzlemix.data.arrays import ArrayData, Arrays, write_arrays
from puzzlemix.data.cifar import read_cifar
from puzzlemix.data.first_classes import FirstClasses
from puzzlemix.data.folders import SHORT_SIDES, ImageFolders, resized_folder, write_resized_copies
from puzzlemix.data.image_folder import channel_statistics, read_image_folder
from puzzlemix.data.tiny_imagenet import read_tiny_imagenet
from puzzlemix.runtime.errors import require
from puzzlemix.runtime.files import make_folder, write_text
from puzzlemix.training.settings import command


@script("prepare_data")
def main(config: DictConfig) -> None:
    if OmegaConf.is_missing(config.dataset, "num_classes"):
        config.dataset.num_classes = None  # the number of classes that the user's own images have
    config = plain(config)
    data = build_part(config["dataset"])
    source = None if config["source"] is None else Path(config["source"]).expanduser()
    is_part = isinstance(data, FirstClasses)
    require(not is_part, f"{data.name} is read from {data.folder}: give dataset={data.folder.name} instead")
    if isinstance(data, ImageFolders):
        prepare_folders(data, source, config["force"])
        return
    match HydraConfig.get().runtime.choices["dataset"]:
        case "digits":
            require(source is None, "digits come with scikit-learn: nothing is read from source=")
            print("digits: nothing to prepare, scikit-learn has them")
        case "cifar10" | "cifar100" as name:
            raw = source or data.folder.parent / "raw"
            prepare_arrays(data, lambda: read_cifar(name, raw, config["download"]), config["force"])
        case "tiny_imagenet":
            raw = source or data.folder.parent / "raw" / "tiny-imagenet-200.zip"
            prepare_arrays(data, lambda: read_tiny_imagenet(raw), config["force"])
        case _:
            check_source(data, source, config["force"])
            train = prepare_arrays(data, lambda: read_own_images(data, source, config), config["force"], source)
            print("train with: " + training_command(data, train))


def prepare_arrays(
    data: ArrayData, read: Callable[[], tuple[Arrays, Arrays]], force: bool, own: Path | None = None
) -> Arrays:
    """Write both splits that `read` gives, unless they were prepared before. Returns the training images.

    `own` is the folder of the user's own images; it is recorded for `check_source`.
    """
    is_done = is_prepared(data) and not force
    train, test = (data.read("train"), data.read("test")) if is_done else read()
    data.num_classes = data.num_classes or len(train.classes)
    data.check(train, test, remedy="prepare it again with force=true" if is_done else "check what source= holds")
    if not is_done:
        if own is not None:
            write_text(source_record(data), str(own.resolve()))
        for name, split in (("train", train), ("test", test)):
            write_arrays(data.folder / f"{name}.npz", split)
    counts = f"{len(train.y)} training and {len(test.y)} test images of {data.num_classes} classes"
    print(f"{data.folder}: {'prepared before (again: force=true)' if is_done else 'prepared'}, {counts}")
    return train


def is_prepared(data: ArrayData) -> bool:
    """Whether the files of both splits exist."""
    return all((data.folder / f"{split}.npz").is_file() for split in ("train", "test"))


def read_own_images(data: ArrayData, source: Path | None, config: Mapping[str, Any]) -> tuple[Arrays, Arrays]:
    """Read training and test images from an image folder."""
    require(source is not None, "source must be given: add source=FOLDER, which holds <class>/ with your images")
    return read_image_folder(source, data.image_size, config["test_share"], config["seed"])


def check_source(data: ArrayData, source: Path | None, force: bool) -> None:
    """Raise `InputError` if images of another source were prepared under the same name."""
    record = source_record(data)
    if source is not None and is_prepared(data) and record.is_file() and not force:
        before = record.read_text()
        is_same = before == str(source.resolve())
        require(is_same, f"{data.folder} was prepared from {before}: give another dataset.name=, or force=true")


def source_record(data: ArrayData) -> Path:
    """The file that holds the folder of a dataset's source."""
    return data.folder / "source.txt"


def training_command(data: ArrayData, train: Arrays) -> str:
    """The command that trains on the user's own images, with the values that the config cannot know."""
    mean, std = channel_statistics(train.x)
    values = {"name": data.name, "root": data.folder.parent, "num_classes": data.num_classes}
    values |= {"image_size": data.image_size, "mean": mean, "std": std}
    return command("train", {"dataset": "image_folder"} | {f"dataset.{key}": v for key, v in values.items()})


def prepare_folders(data: Any, source: Path | None, force: bool) -> None:
    """Link a source's folders to where training looks for them, and write the resized copies that are missing."""
    for split in ("train", "val") if source is not None else ():
        link_folder(data.folder / split, source / split)
    data.load(torch.device("cpu"))
    for split, short_side in [(split, side) for split, sides in SHORT_SIDES.items() for side in sides]:
        copies = resized_folder(data.folder, split, short_side)
        is_done = copies.is_dir()
        require(not (is_done and force), f"{copies} exists: delete it, and it is written again")
        if not is_done:
            write_resized_copies(data.folder / split, copies, short_side)
        print(f"{copies}: {'prepared before' if is_done else 'prepared'}")


def link_folder(link: Path, folder: Path) -> None:
    """Make `link` a link to a folder. An existing link to a folder that is gone is replaced.

    Raises:
        InputError: the folder does not exist, or `link` is another folder or a link to one.
    """
    require(folder.is_dir(), f"{folder} does not exist: give the folder that holds train/ and val/")
    if link.is_symlink() and not link.exists():
        link.unlink()
    if link.exists():
        is_same = link.resolve() == folder.resolve()
        require(is_same, f"{link} leads to {link.resolve()}: delete it to read {folder} instead, or leave out source=")
        return
    make_folder(link.parent, "dataset.root=")
    link.symlink_to(folder.resolve())


if __name__ == "__main__":
    main()
