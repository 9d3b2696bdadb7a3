"""Digits: scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, embedded in the library, so no network is needed.

They come as 32 x 32 RGB, so that everything made for CIFAR runs on them, and few a class are trained on, since with all
of them the task is solved before mixing matters.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from puzzlemix.data.arrays import ArrayData
from puzzlemix.data.checks import check_image_size
from puzzlemix.data.npz import Arrays
from puzzlemix.runtime.errors import require

# In the split's order, of each class: the first 100 may be trained on, the next 50 are the test images.
TRAIN_PER_CLASS, TEST_PER_CLASS = 100, 50
MOST_PIXELS = 256**2  # of an image: nothing is gained by enlarging 8 x 8 further


class Digits(ArrayData):
    """The dataset; arguments as `ArrayData`'s.

    Args:
        train_per_class: training images of each class, 1 to 100, the first of a fixed stratified order.
    """

    def __init__(self, train_per_class: int, **options: object):
        super().__init__(**options)
        check_image_size(self.image_size, MOST_PIXELS)
        require(
            1 <= train_per_class <= TRAIN_PER_CLASS,
            f"dataset.train_per_class must lie in [1, {TRAIN_PER_CLASS}], not {train_per_class}",
        )
        self.train_per_class = train_per_class

    def read(self, split: str) -> Arrays:
        """One split of the fixed stratified division: `train_per_class` or 50 images a class."""
        from sklearn.datasets import load_digits  # here, so that no other dataset needs scikit-learn

        grey, y = load_digits(return_X_y=True)  # (1797, 64) in 0..16, (1797,)
        order = np.random.default_rng(0).permutation(len(y))
        first, images = (0, self.train_per_class) if split == "train" else (TRAIN_PER_CLASS, TEST_PER_CLASS)
        index = np.concatenate([order[y[order] == label][first : first + images] for label in range(10)])
        small = torch.from_numpy(grey[index]).view(-1, 1, 8, 8) / 16
        large = F.interpolate(small, self.image_size, mode="bilinear", align_corners=False)  # (N, 1, 32, 32)
        x = (large * 255).round().to(torch.uint8).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous()
        return Arrays(x.numpy(), y[index].astype(np.int64), np.array([str(d) for d in range(10)]))
