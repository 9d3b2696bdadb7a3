"""A dataset's corrupted test images, as released or regenerated, in either of the formats that there are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from puzzlemix.corruptions.array_files import ArrayFiles
from puzzlemix.corruptions.names import RELEASED
from puzzlemix.corruptions.record import read_record
from puzzlemix.data.preparing import to_prepare
from puzzlemix.errors import require, require_choice

RELEASES = {  # dataset -> the folder that its release unpacks to
    "cifar10": "CIFAR-10-C",
    "cifar100": "CIFAR-100-C",
    "tiny_imagenet": "Tiny-ImageNet-C",
    "imagenet": "ImageNet-C",
}


def corruption_folder(data: Any) -> Path | None:
    """Where a dataset's corrupted test images lie: the released ones if they are there; None: nowhere."""
    released = [data.folder.parent / RELEASES[data.name]] if data.name in RELEASES else []
    return next((folder for folder in (*released, regenerated_folder(data)) if folder.is_dir()), None)


def regenerated_folder(data: Any) -> Path:
    """Where `generate.py` writes a dataset's."""
    return data.folder.parent / f"{data.name}-c-regenerated"


class CorruptedImages:
    """The test images of a dataset under the corruptions of a folder.

    There are two formats, which may also lie in a folder for each family of corruptions (`noise/`, `blur/`, ...):

        <corruption>.npy, labels.npy              CIFAR-10-C, CIFAR-100-C: see `array_files.py`
        <corruption>/<severity>/<class>/*.JPEG    Tiny-ImageNet-C, ImageNet-C: see `class_folders.py`

    Args:
        folder: see `corruption_folder`.
        data: a dataset of `puzzlemix.data`, loaded. Its classes number the labels; batches lie on its device.

    Attributes:
        folder: of the set.
        images: N, how many test images each corruption shows at each severity.
        severities: of each corruption that is there, in the released order, those that are whole.
        incomplete: of each corruption that is there but for some part, what is missing, in words.
        missing: the corruptions that are not there at all.
        regenerated: in words, how the set was made, if it is not the released one; else None.
        identity: text that differs between sets.

    Raises:
        InputError: the folder is not there, or holds no such set, a damaged one, or another dataset's.
    """

    def __init__(self, folder: Path, data: Any):
        make = to_prepare(data.name, "corruptions=all")
        on = data.evaluated_on
        require(on == "test", f"corrupted images are of the test images, but this run is evaluated on {on} images")
        require(folder.is_dir(), f"{folder} is not there: put {RELEASES.get(data.name, 'such a set')} there, or {make}")
        record = read_record(folder)
        self.folder = folder
        self.regenerated = record and record["how"]
        self.identity = f"{folder.resolve()} {json.dumps(record)}"
        remedy = f"delete it and {make}" if record else "unpack the released set again"
        require(
            record is None or record["classes"] == data.classes,
            f"{folder} was made of {data.name} when its classes were others, or numbered otherwise: {remedy}",
        )
        files = _open(folder, data, remedy)
        self.images, self.severities, self.incomplete = files.images, files.severities, files.incomplete
        self.missing = [name for name in RELEASED if name not in {*self.severities, *self.incomplete}]
        self._files = files

    @property
    def lacking(self) -> list[str]:
        """What is not there of the released corruptions, in words: `missing`, and the parts of `incomplete`."""
        return [*self.missing, *(f"{name} ({what})" for name, what in self.incomplete.items())]

    def batches(
        self, corruption: str, severity: int, shards: Sequence[Sequence[int]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (B, C, H, W) in [0, 1] and labels (B,) int64, of the places in each shard.

        Raises:
            InputError: the set does not have these images.
            RunError: an image cannot be read.
        """
        require_choice("corruption", corruption, self.severities)
        whole = self.severities[corruption]
        require(severity in whole, f"severity {severity} of {corruption} is not there: take one of {list(whole)}")
        return self._files.batches(corruption, severity, shards)


def _open(folder: Path, data: Any, remedy: str) -> Any:
    """The set, in the format that the folder has it in."""
    arrays = _find(folder, [f"{name}.npy" for name in RELEASED])
    if arrays:
        labels = _find(folder, ["labels.npy"])
        require(bool(labels), f"{folder} has no labels.npy, which tells the classes of its images: {remedy}")
        return ArrayFiles({path.stem: path for path in arrays}, labels[0], data, remedy)

    folders = _find(folder, RELEASED)
    require(bool(folders), f"{folder} holds no corruption, neither {RELEASED[0]}.npy nor {RELEASED[0]}/: {remedy}")
    from puzzlemix.corruptions.class_folders import ClassFolders  # here, so that arrays do not need torchvision

    return ClassFolders({path.name: path for path in folders}, data, remedy)


def _find(folder: Path, names: Iterable[str]) -> list[Path]:
    """Those of these files or folders that are in a folder, or in one of its folders."""
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    found = [next((place / name for place in places if (place / name).exists()), None) for name in names]
    return [path for path in found if path is not None]
