"""The first classes of a dataset, out of its files."""

import numpy as np
import pytest
import torch
from test_experiments import compose

from puzzlemix.cli.config import build, plain
from puzzlemix.data.first_classes import FirstClasses
from puzzlemix.runtime.errors import InputError

PER_CLASS = {"train": 6, "test": 3}


@pytest.fixture
def root(tmp_path):
    """A dataset of five classes, its images in no order."""
    folder = tmp_path / "five"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for split, count in PER_CLASS.items():
        labels = generator.permutation(np.repeat(np.arange(5), count))
        x = generator.integers(0, 256, (len(labels), 8, 8, 3), np.uint8)
        np.savez(folder / f"{split}.npz", x=x, y=labels, classes=np.array(list("abcde")))
    return tmp_path


def first_classes(root, **options):
    counts = {"num_classes": 2, "train_images": 12, "test_images": 6} | options
    return FirstClasses("five", name="two", root=root, image_size=(8, 8), mean=[0] * 3, std=[1] * 3, **counts)


@pytest.mark.parametrize("split", PER_CLASS)
def test_it_is_all_images_of_those_classes_class_by_class(root, split):
    with np.load(root / "five" / f"{split}.npz") as whole:
        wanted = [image for label in (0, 1) for image, own in zip(whole["x"], whole["y"], strict=True) if own == label]
    found = first_classes(root).read(split)
    assert np.array_equal(found.x, np.stack(wanted))
    assert found.y.tolist() == [0] * PER_CLASS[split] + [1] * PER_CLASS[split]
    assert found.classes.tolist() == ["a", "b"]


def test_it_has_as_few_images_a_class_as_wanted(root):
    whole = first_classes(root)
    few = first_classes(root, train_images=8, train_per_class=4)
    for split, count in (("train", 4), ("test", PER_CLASS["test"])):
        every, some = whole.read(split), few.read(split)
        wanted = np.concatenate([np.flatnonzero(every.y == label)[:count] for label in (0, 1)])
        assert np.array_equal(some.x, every.x[wanted])
        assert np.array_equal(some.y, every.y[wanted])
    with pytest.raises(InputError, match=r"dataset.train_per_class is 7, but a class has 6 images"):
        first_classes(root, train_per_class=7).read("train")
    with pytest.raises(InputError, match=r"dataset.train_per_class must be a whole number, at least 1, not 0"):
        first_classes(root, train_per_class=0)


def test_it_is_checked_and_loaded_as_every_dataset_is(root):
    data = first_classes(root)
    data.load(torch.device("cpu"))
    assert (data.name, data.classes, data.test_count) == ("two", ["a", "b"], 6)
    with pytest.raises(InputError, match=r"two train: 12 images instead of 13: let .* agree, or delete .*five`"):
        first_classes(root, train_images=13).load(torch.device("cpu"))


def test_missing_files_are_prepared_as_the_dataset_that_they_are_of(root):
    (root / "five" / "test.npz").unlink()
    with pytest.raises(InputError, match=r"five/test.npz does not exist: run `.*prepare_data.py dataset=five`"):
        first_classes(root).load(torch.device("cpu"))


def test_more_classes_than_there_are_are_refused(root):
    with pytest.raises(InputError, match=r"dataset.num_classes is 6, but five has 5 classes: give fewer"):
        first_classes(root, num_classes=6).read("train")
    with pytest.raises(InputError, match=r"dataset.num_classes must be a whole number, at least 2, not 0"):
        first_classes(root, num_classes=0)


@pytest.mark.parametrize(
    ("option", "train_images"), [("cifar100_20classes", 10000), ("cifar100_20classes_100images", 2000)]
)
def test_the_options_take_what_they_say_of_cifar100(tmp_path, option, train_images):
    folder = tmp_path / "cifar100"
    folder.mkdir()
    for split, count in (("train", 500), ("test", 100)):
        labels = np.tile(np.arange(100), count)  # the classes in turn
        x = np.zeros((len(labels), 32, 32, 3), np.uint8)
        np.savez(folder / f"{split}.npz", x=x, y=labels, classes=np.array([f"class {label}" for label in range(100)]))
    config = plain(compose("name=any", "recipe=cifar100_small", f"dataset={option}", f"dataset.root={tmp_path}"))
    data = build(config).data
    data.load(torch.device("cpu"))
    assert data.name == option
    assert data.test_count == 2000
    assert data.steps(100, drop_last=False) == train_images // 100
    assert data.classes == [f"class {label}" for label in range(20)]
