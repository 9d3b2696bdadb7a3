"""Datasets that fit in memory: uint8 tensors on the training device, whole batches augmented.

On disk they are `<root>/<name>/{train,test}.npz` (`npz.py`), made by `scripts/prepare_data.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from puzzlemix.data.augment import crop_and_flip, draw_crops
from puzzlemix.data.checks import check_dataset, check_image_size, check_name
from puzzlemix.data.npz import Arrays, read_arrays
from puzzlemix.data.sharding import epoch_shards, places_in_batch
from puzzlemix.runtime.errors import require, require_whole
from puzzlemix.runtime.seeding import torch_seed


class ArrayData:
    """A dataset in memory.

    Args:
        name: of the dataset and of its folder.
        num_classes: K.
        image_size: height and width in pixels.
        mean, std: channel statistics for the network's first layer, pixels in [0, 1].
        crop_padding: random crops are taken from images padded with this many zeros a side; 0 for none.
        flip: mirror half of the training images.
        train_images, test_images: how many the dataset must have; None where any number will do.
        validation_per_class: hold out the last images of each class from training and evaluate on them instead of the
            test images; 0 as released.
        root: the folder that holds the datasets' folders.
    """

    workers = 4  # processes that read what does not come in arrays: Tiny-ImageNet-C is files
    unclipped = False  # values of training images lie in [0, 1]

    def __init__(
        self,
        name: str,
        num_classes: int,
        image_size: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        crop_padding: int = 0,
        flip: bool = False,
        train_images: int | None = None,
        test_images: int | None = None,
        validation_per_class: int = 0,
        root: str = "data",
    ):
        check_name(name)
        check_image_size(image_size)
        require_whole("dataset.validation_per_class", validation_per_class, least=0)
        require_whole("dataset.crop_padding", crop_padding, least=0, most=min(image_size))
        self.name, self.num_classes, self.image_size = name, num_classes, tuple(image_size)
        self.mean, self.std = tuple(mean), tuple(std)
        self.crop_padding, self.flip = crop_padding, flip
        self.expected_images = {"train": train_images, "test": test_images}
        self.validation_per_class = validation_per_class
        self.folder = Path(root) / name

    def read(self, split: str) -> Arrays:
        """One split as it stands on disk.

        Raises:
            InputError: the file is missing or damaged.
        """
        return read_arrays(self.folder / f"{split}.npz", self._prepare)

    def load(self, device: torch.device) -> None:
        """Read both splits, check them, and put them on `device`.

        Raises:
            InputError: a file is missing or damaged, or the dataset is not what its config says.
        """
        train, test = self.read("train"), self.read("test")
        self.check(train, test, self._remedy)
        if self.validation_per_class:
            train, test = self._hold_out(train)
        self.classes = [str(c) for c in train.classes]
        self.device = device
        self._train, self._test = (
            (
                torch.from_numpy(split.x).permute(0, 3, 1, 2).contiguous().to(device),
                torch.from_numpy(split.y).to(device),
            )
            for split in (train, test)
        )

    def check(self, train: Arrays, test: Arrays, remedy: str) -> None:
        """Raise `InputError`, with the remedy, unless these two splits are what the config says."""
        channels = len(self.mean)
        check_dataset(self.name, train, test, self.num_classes, self.image_size, channels, self.expected_images, remedy)

    @property
    def evaluated_on(self) -> str:
        """Which images the errors in the log are of."""
        return "validation" if self.validation_per_class else "test"

    @property
    def test_count(self) -> int:
        """How many images there are to evaluate on, of the loaded dataset."""
        return len(self._test[1])

    def steps(self, batch_size: int, drop_last: bool) -> int:
        """Training steps an epoch."""
        return len(epoch_shards(self.train_count, batch_size, drop_last, seed=0, epoch=0))

    def check_view(self, **view: object) -> None:
        """Raise `InputError` where a recipe's phase wants images cut: arrays have one size."""
        require(not view, f"{self.name} has images of one size: a recipe with phases ({sorted(view)}) needs ImageNet")

    def train_batches(
        self, batch_size: int, drop_last: bool, seed: int, epoch: int, first_step: int = 0, **view: object
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of an epoch: images (B / P, C, H, W) in [0, 1], augmented, and labels (B / P,).

        Order follows from seed and epoch alone, an image's augmentation from seed, epoch, step and its place in the
        global batch, so that any number of processes, and a run that goes on from `first_step`, see the same images.
        `view`, how a recipe's phase wants images cut, is for folders of large images: see `check_view`.
        """
        self.check_view(**view)
        x, y = self._train
        generator = torch.Generator(x.device)
        shards = epoch_shards(len(y), batch_size, drop_last, seed, epoch)
        order = torch.from_numpy(np.concatenate(shards)).to(x.device)  # once an epoch: a GPU is waited for
        indices = order.split([len(shard) for shard in shards])
        for step, index in enumerate(indices[first_step:], start=first_step):
            generator.manual_seed(torch_seed("augmentation", seed, epoch, step, 0))  # all draw as the first process
            crops = draw_crops(batch_size, self.crop_padding, self.flip, generator)[places_in_batch(len(index))]
            yield crop_and_flip(x[index], self.crop_padding, crops).float().div_(255), y[index]

    def test_batches(self, shards: Iterable[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Test images, as they are, and labels, of the places in each shard."""
        return _as_they_are(*self._test, shards)

    @property
    def train_count(self) -> int:
        """How many training images there are, of the loaded dataset."""
        return len(self._train[1])

    def plain_train_batches(self, shards: Iterable[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Training images, as they are, and labels, of the places in each shard: how well a network knows them."""
        return _as_they_are(*self._train, shards)

    @property
    def _remedy(self) -> str:
        """Where the files are not what the config says."""
        return f"delete {self.folder} and {self._prepare}"

    @property
    def _prepare(self) -> str:
        """What makes the files. The name alone does not say whether the images are the user's own."""
        script, name = "python scripts/prepare_data.py", self.folder.name
        own = f"dataset=image_folder dataset.name={name} source=FOLDER"
        return f"run `{script} dataset={name}`, for images of your own with `{own}`"

    def _hold_out(self, train: Arrays) -> tuple[Arrays, Arrays]:
        k = self.validation_per_class
        fewest = np.bincount(train.y).min()
        require(0 < k < fewest, f"validation_per_class must lie between 1 and {fewest - 1}, not {k}")
        held = np.zeros(len(train.y), bool)
        for label in range(self.num_classes):
            held[np.flatnonzero(train.y == label)[-k:]] = True
        return tuple(Arrays(train.x[part], train.y[part], train.classes) for part in (~held, held))


def _as_they_are(x: Tensor, y: Tensor, shards: Iterable[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (B, C, H, W) in [0, 1] and labels (B,), of the places in each shard."""
    for shard in shards:
        in_steps = isinstance(shard, range)  # then nothing is moved, for which a GPU would be waited for
        own = slice(shard.start, shard.stop, shard.step) if in_steps else torch.tensor(shard, device=y.device)
        yield x[own].float().div_(255), y[own]
