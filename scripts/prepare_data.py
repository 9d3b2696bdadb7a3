"""Prepare a dataset for training: read it as it was published, check it, and write it below data/.

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

from puzzlemix.cli import overrides
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


@script("prepare_data")
def main(config: DictConfig) -> None:
    if OmegaConf.is_missing(config.dataset, "num_classes"):
        config.dataset.num_classes = None  # as many as one's own images have
    config = plain(config)
    data = build_part(config["dataset"])
    source = None if config["source"] is None else Path(config["source"]).expanduser()
    of_others = isinstance(data, FirstClasses)
    require(not of_others, f"{data.name} is read from {data.folder}: give dataset={data.folder.name}, which makes that")
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
    """Write both splits that `read` gives, unless they are there, whole. Returns the training images.

    Of one's own images the folder `own` is written down before them: see `check_source`.
    """
    there = is_prepared(data) and not force
    train, test = (data.read("train"), data.read("test")) if there else read()
    data.num_classes = data.num_classes or len(train.classes)
    data.check(train, test, remedy="prepare it again with force=true" if there else "look what source= holds")
    if not there:
        if own is not None:
            write_text(source_record(data), str(own.resolve()))
        for name, split in (("train", train), ("test", test)):
            write_arrays(data.folder / f"{name}.npz", split)
    counts = f"{len(train.y)} training and {len(test.y)} test images of {data.num_classes} classes"
    print(f"{data.folder}: {'prepared before (again: force=true)' if there else 'prepared'}, {counts}")
    return train


def is_prepared(data: ArrayData) -> bool:
    """Whether both splits are there."""
    return all((data.folder / f"{split}.npz").is_file() for split in ("train", "test"))


def read_own_images(data: ArrayData, source: Path | None, config: Mapping[str, Any]) -> tuple[Arrays, Arrays]:
    """Training and test images of an image folder."""
    require(source is not None, "source must be given: add source=FOLDER, which holds <class>/ with your images")
    return read_image_folder(source, data.image_size, config["test_share"], config["seed"])


def check_source(data: ArrayData, source: Path | None, force: bool) -> None:
    """Raise `InputError` where other images than those of this source were prepared under the name."""
    record = source_record(data)
    if source is not None and is_prepared(data) and record.is_file() and not force:
        before = record.read_text()
        same = before == str(source.resolve())
        require(same, f"{data.folder} was prepared from {before}: give another dataset.name=, or force=true")


def source_record(data: ArrayData) -> Path:
    """The file that says where a dataset's images came from."""
    return data.folder / "source.txt"


def training_command(data: ArrayData, train: Arrays) -> str:
    """What trains on one's own images, with what the config cannot know of them."""
    mean, std = channel_statistics(train.x)
    values = {"name": data.name, "root": data.folder.parent, "num_classes": data.num_classes}
    values |= {"image_size": data.image_size, "mean": mean, "std": std}
    return overrides.command("train", {"dataset": "image_folder"} | {f"dataset.{key}": v for key, v in values.items()})


def prepare_folders(data: Any, source: Path | None, force: bool) -> None:
    """Link a source's folders to where training looks for them, and write the resized copies unless they are there."""
    for split in ("train", "val") if source is not None else ():
        link_folder(data.folder / split, source / split)
    data.load(torch.device("cpu"))
    for split, short_side in [(split, side) for split, sides in SHORT_SIDES.items() for side in sides]:
        copies = resized_folder(data.folder, split, short_side)
        there = copies.is_dir()
        require(not (there and force), f"{copies} is there: delete it, and it is written again")
        if not there:
            write_resized_copies(data.folder / split, copies, short_side)
        print(f"{copies}: {'prepared before' if there else 'prepared'}")


def link_folder(link: Path, folder: Path) -> None:
    """Let `link` lead to a folder, also where it led to one that is gone.

    Raises:
        InputError: the folder is not there, or something else is in the link's place.
    """
    require(folder.is_dir(), f"{folder} is not there: give the folder that holds train/ and val/")
    if link.is_symlink() and not link.exists():
        link.unlink()
    if link.exists():
        same = link.resolve() == folder.resolve()
        require(same, f"{link} is {link.resolve()}, and is read: delete it to read {folder}, or leave out source=")
        return
    make_folder(link.parent, "dataset.root=")
    link.symlink_to(folder.resolve())


if __name__ == "__main__":
    main()
