"""The first classes of a dataset in memory, out of its files: what a machine without a GPU can train on."""

from __future__ import annotations

import numpy as np

from puzzlemix.data.arrays import ArrayData
from puzzlemix.data.npz import Arrays
from puzzlemix.errors import require


class FirstClasses(ArrayData):
    """All images of classes 0 to K - 1 of another dataset, in the order of their classes; arguments as `ArrayData`'s.

    Args:
        of: the dataset whose files are read.
    """

    def __init__(self, of: str, **options: object):
        super().__init__(**options)
        self.folder = self.folder.with_name(of)

    def read(self, split: str) -> Arrays:
        """The split's images of the first `num_classes` classes.

        Raises:
            InputError: the file is missing or damaged, or has fewer classes.
        """
        x, y, classes = super().read(split)
        few, there = self.num_classes, len(classes)
        require(few <= there, f"dataset.num_classes is {few}, but {self.folder.name} has {there} classes: give fewer")
        order = np.argsort(y, kind="stable")
        first = order[y[order] < few]
        return Arrays(x[first], y[first], classes[:few])
