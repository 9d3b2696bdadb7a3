"""Crops of scikit-learn's two photographs, as a batch and as a dataset: real images in any size and number."""

import numpy as np
import torch
from torch import Tensor

from puzzlemix.data.arrays import ArrayData, Arrays


def crops(count: int, height: int, width: int, seed: int) -> Tensor:
    """Crops at random places of the two photographs, which alternate: (count, 3, height, width) uint8."""
    from sklearn.datasets import load_sample_images  # imported here, so that no other benchmark needs scikit-learn

    generator = torch.Generator().manual_seed(seed)
    pictures = [torch.tensor(picture).permute(2, 0, 1) for picture in load_sample_images().images]
    images = []
    for i in range(count):
        picture = pictures[i % 2]
        y, x = (
            int(torch.randint(length - side, (), generator=generator))
            for length, side in zip(picture.shape[1:], (height, width), strict=True)
        )
        images.append(picture[:, y : y + height, x : x + width])
    return torch.stack(images)


class Photographs(ArrayData):
    """A dataset with as many images in each split as its config says; labels go through the classes in turn."""

    def read(self, split: str) -> Arrays:
        count = self.expected_images[split]
        x = crops(count, *self.image_size, seed=["train", "test"].index(split))
        classes = np.array([f"class {label}" for label in range(self.num_classes)])
        return Arrays(x.permute(0, 2, 3, 1).numpy(), np.arange(count) % self.num_classes, classes)
