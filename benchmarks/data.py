"""Images per second: this package's loading against a plain DataLoader with two workers, torchvision's transforms."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.photographs import Photographs, crops
from puzzlemix.data.folders import ImageFolders
from puzzlemix.runtime.stopwatch import now_s

HEADER = ("dataset", "batch", "here, images/s", "DataLoader, images/s", "times")
WORKERS = 2
BATCH = 100
STATISTICS = {"mean": [0.5] * 3, "std": [0.25] * 3}


def benchmark(device: str, repeats: int) -> Iterator[tuple[str, ...]]:
    """Rows as in `HEADER`: arrays in memory, then image files on disk; medians of `repeats` epochs, which take turns.

    The arrays are 10,000 images of 32 x 32 pixels, which are cropped after zero padding, flipped, and turned into
    floats in [0, 1]. The files are 2,000 JPEGs of 500 x 400 pixels, which are decoded, cropped and resized to
    224 x 224, and flipped. For files, both use the same transforms in the same number of workers, so this package
    cannot be faster than the DataLoader.
    """
    yield _row("arrays, 32 x 32", *_arrays(torch.device(device)), repeats)
    with tempfile.TemporaryDirectory() as folder:
        yield _row("files, 224 x 224", *_files(Path(folder), torch.device(device), per_class=500), repeats)


Epoch = Callable[[int], Iterable[tuple[Any, Any]]]  # number of the epoch -> its batches


def _arrays(device: torch.device) -> tuple[Epoch, Epoch]:
    size = {"train_images": 10_000, "test_images": 100, "image_size": (32, 32)}
    data = Photographs(name="photographs", num_classes=100, crop_padding=2, flip=True, **size, **STATISTICS)
    data.load(device)
    images = data.read("train").x
    to_floats = v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)
    augmentation = v2.Compose([v2.RandomCrop(32, padding=2), v2.RandomHorizontalFlip(), *to_floats])
    loader = _loader(_Pictures(images, augmentation))
    return (lambda epoch: data.train_batches(BATCH, False, seed=0, epoch=epoch)), (lambda epoch: loader)


def _files(root: Path, device: torch.device, per_class: int) -> tuple[Epoch, Epoch]:
    for split, images in (("train", per_class), ("val", 1)):
        for label in range(4):
            folder = root / "photographs" / split / f"class{label}"
            folder.mkdir(parents=True)
            for i, image in enumerate(crops(images, 400, 500, seed=label)):
                Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i}.jpg", quality=90)
    size = {"num_classes": 4, "image_size": (224, 224)}
    data = ImageFolders(name="photographs", workers=WORKERS, root=str(root), **size, **STATISTICS)
    data.load(device)
    steps = v2.RandomResizedCrop(224, scale=(0.08, 1)), v2.RandomHorizontalFlip(), v2.PILToTensor()
    loader = _loader(ImageFolder(str(root / "photographs" / "train"), v2.Compose(steps)))
    return (lambda epoch: data.train_batches(BATCH, False, seed=0, epoch=epoch)), (lambda epoch: loader)


def _loader(dataset: Dataset) -> DataLoader:
    return DataLoader(dataset, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)


def _row(title: str, here: Epoch, there: Epoch, repeats: int) -> tuple[str, ...]:
    rates = {here: [], there: []}
    for epoch in range(repeats + 1):
        for batches, taken in rates.items():
            taken.append(_images_per_s(batches(epoch)))
    ours, theirs = (median(taken[1:]) for taken in rates.values())
    return title, str(BATCH), f"{ours:.0f}", f"{theirs:.0f}", f"{ours / theirs:.1f}"


def _images_per_s(batches: Iterable[tuple[Any, Any]]) -> float:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    start_s, images = now_s(device), 0
    for _, labels in batches:
        images += len(labels)
    return images / (now_s(device) - start_s)


class _Pictures(Dataset):
    """Arrays (N, H, W, 3) uint8, given one at a time as PIL images, as torchvision's CIFAR100 does."""

    def __init__(self, images: Any, transform: Callable[[Image.Image], torch.Tensor]):
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), index % 100
