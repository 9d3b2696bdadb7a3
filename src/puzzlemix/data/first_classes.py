"""Part of a dataset in memory, out of its files: what a machine without a GPU can train on."""

from __future__ import annotations

import numpy as np

from puzzlemix.data.arrays import ArrayData
from puzzlemix.data.npz import Arrays
from puzzlemix.runtime.errors import require, require_whole


class FirstClasses(ArrayData):
    """Images of classes 0 to K - 1 of another dataset, in the order of their classes; arguments as `ArrayData`'s.

    Args:
        of: the dataset whose files are read.
        train_per_class: training images of each class, the first in the files; None: all.
    """

    def __init__(self, of: str, train_per_class: int | None = None, **options: object):
        super().__init__(**options)
        require_whole("dataset.num_classes", self.num_classes, least=2)
        if train_per_class is not None:
            require_whole("dataset.train_per_class", train_per_class, least=1)
        self.folder = self.folder.with_name(of)
        self.train_per_class = train_per_class

    def read(self, split: str) -> Arrays:
        """The split's images of the first `num_classes` classes.

        Raises:
            InputError: the file is missing or damaged, or has fewer classes or images.
        """
        x, y, classes = super().read(split)
        few, there = self.num_classes, len(classes)
        require(few <= there, f"dataset.num_classes is {few}, but {self.folder.name} has {there} classes: give fewer")
        of_class = [np.flatnonzero(y == label) for label in range(few)]
        if split == "train" and self.train_per_class is not None:
            wanted, fewest = self.train_per_class, min(map(len, of_class))
            require(wanted <= fewest, f"dataset.train_per_class is {wanted}, but a class has {fewest} images")
            of_class = [places[:wanted] for places in of_class]
        chosen = np.concatenate(of_class)
        return Arrays(x[chosen], y[chosen], classes[:few])

    @property
    def _remedy(self) -> str:
        few = [] if self.train_per_class is None else ["train_per_class"]
        keys = ["num_classes", *few, "train_images", "test_images"]
        return f"let {', '.join(f'dataset.{key}' for key in keys)} agree, or {super()._remedy}"
