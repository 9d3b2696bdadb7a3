"""Digits: scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, which come with the library.

They are enlarged to 32 x 32 RGB, so that everything made for CIFAR runs on them. Networks learn all training images
before mixing matters, so the default has few training images.
"""

import numpy as np
import torch
import torch.nn.functional as F

from puzzlemix.data.arrays import ArrayData, Arrays
from puzzlemix.runtime.errors import require, require_whole

TRAIN_PER_CLASS, TEST_PER_CLASS = 100, 50  # the first 100 images of each class in a fixed order, and the next 50


class Digits(ArrayData):
    """The dataset.

    Args:
        train_per_class: training images of each class, 1 to 100.
        options: the arguments of `ArrayData`.
    """

    def __init__(self, train_per_class: int, **options: object):
        super().__init__(**options)
        fits = max(self.image_size) <= 256
        require(fits, f"digits are enlarged to at most 256 pixels per side, not {self.image_size}")
        require_whole("dataset.train_per_class", train_per_class, least=1, most=TRAIN_PER_CLASS)
        self.train_per_class = train_per_class

    def read(self, split: str) -> Arrays:
        """Make the split "train", `train_per_class` images of each class, or "test", 50 of each."""
        from sklearn.datasets import load_digits  # imported here, so that no other dataset needs scikit-learn

        grey, y = load_digits(return_X_y=True)  # (1797, 64) in 0..16, (1797,)
        order = np.random.default_rng(0).permutation(len(y))
        first, images = (0, self.train_per_class) if split == "train" else (TRAIN_PER_CLASS, TEST_PER_CLASS)
        index = np.concatenate([order[y[order] == label][first : first + images] for label in range(10)])  # (N,)

        small = torch.from_numpy(grey[index]).view(-1, 1, 8, 8) / 16
        large = F.interpolate(small, self.image_size, mode="bilinear", align_corners=False)  # (N, 1, H, W)
        x = (large * 255).round().to(torch.uint8).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous()
        return Arrays(x.numpy(), y[index].astype(np.int64), np.array([str(digit) for digit in range(10)]))
