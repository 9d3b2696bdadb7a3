"""Images with partners, to draw what becomes of them: a dataset's, or those of image files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from puzzlemix.data.image_files import read_fitted
from puzzlemix.mixing.saliency import input_gradient, saliency_of
from puzzlemix.runtime import distributed
from puzzlemix.runtime.errors import require


class Batch(NamedTuple):
    """Images with partners: images (B, C, H, W) in [0, 1], labels (B,), partner (B,), names B class names."""

    images: Tensor
    labels: Tensor
    partner: Tensor
    names: list[str]

    def saliency(self, network: nn.Module) -> Tensor:
        """What a network looks at in them, (B, H, W)."""
        return saliency_of(input_gradient(network, self.images, self.labels), network)


def batch_of(data: Any, images: int, seed: int) -> Batch:
    """The first training images of an epoch of a dataset of `puzzlemix.data`, already loaded; clipped, to be shown."""
    of_all_processes = images * distributed.world_size()  # each is given its share
    with closing(data.train_batches(of_all_processes, False, seed, epoch=0)) as batches:
        images, labels = next(batches)
        return _paired(images.clamp(0, 1), labels, data.classes)


def read_images(paths: Sequence[str | Path], size: tuple[int, int], channels: int) -> Tensor:
    """Image files, read as one's own images are for training, of `size`, height and width: (B, C, H, W) in [0, 1].

    Raises:
        InputError: a file is not there or no image.
    """
    images = []
    for path in paths:
        path = Path(str(path))  # a name such as 7 is read as a number
        require(path.is_file(), f"{path} is not there: give images=[first.jpg,second.jpg]")
        image = read_fitted(path, size).convert("L" if channels == 1 else "RGB")
        images.append(torch.from_numpy(np.array(image)).view(*size, channels).permute(2, 0, 1))
    return torch.stack(images).float() / 255


def as_seen(network: nn.Module, images: Tensor, names: Sequence[str]) -> Batch:
    """Images (B, C, H, W) as a batch with the labels that the network gives them; `names` of its classes."""
    with torch.no_grad():
        return _paired(images, network(images).argmax(1), names)


def _paired(images: Tensor, labels: Tensor, names: Sequence[str]) -> Batch:
    """Images (B, C, H, W) of classes (B,), each with the one before it as its partner; `names` of all classes."""
    partner = torch.arange(len(images), device=images.device).roll(1)
    return Batch(images, labels, partner, [names[label] for label in labels.tolist()])
