"""Part of a dataset in memory, from its files: small enough to train on without a GPU."""

import numpy as np

from puzzlemix.data.arrays import ArrayData, Arrays
from puzzlemix.runtime.errors import require, require_whole


class FirstClasses(ArrayData):
    """Classes 0 to K - 1 of another dataset, ordered by class.

    Args:
        of: name of the other dataset, whose files are read.
        train_per_class: training images of each class, the first in the files; None for all.
        options: the arguments of `ArrayData`.
    """

    def __init__(self, of: str, train_per_class: int | None = None, **options: object):
        super().__init__(**options)
        require_whole("dataset.num_classes", self.num_classes, least=2)
        if train_per_class is not None:
            require_whole("dataset.train_per_class", train_per_class, least=1)
        self.train_per_class = train_per_class
        self.folder = self.folder.with_name(of)

    def read(self, split: str) -> Arrays:
        """Read the first classes of the split "train" or "test".

        Raises:
            InputError: the file is missing or damaged, or has fewer classes or images than asked for.
        """
        x, y, classes = super().read(split)
        k, there = self.num_classes, len(classes)
        require(k <= there, f"dataset.num_classes is {k}, but {self.folder.name} has {there} classes: give fewer")
        places = [np.flatnonzero(y == label) for label in range(k)]
        if split == "train" and self.train_per_class is not None:
            wanted, fewest = self.train_per_class, min(map(len, places))
            require(wanted <= fewest, f"dataset.train_per_class is {wanted}, but a class has {fewest} images")
            places = [of_class[:wanted] for of_class in places]
        chosen = np.concatenate(places)
        return Arrays(x[chosen], y[chosen], classes[:k])

    @property
    def _remedy(self) -> str:
        return f"let dataset.num_classes, train_per_class, train_images and test_images agree, or {super()._remedy}"
