"""The embedded digits."""

import hydra
import numpy as np
import pytest
import torch
from conftest import CONFIGS
from omegaconf import OmegaConf
from sklearn.datasets import load_digits

from puzzlemix.data.digits import Digits
from puzzlemix.runtime.errors import InputError

CONFIG = OmegaConf.load(CONFIGS / "dataset" / "digits.yaml")


def digits(train_per_class):
    return hydra.utils.instantiate(CONFIG, train_per_class=train_per_class)


def test_the_split_is_fixed_stratified_and_disjoint():
    few, many = digits(10), digits(100)
    train, test = many.read("train"), many.read("test")
    assert np.bincount(train.y).tolist() == [100] * 10
    assert np.bincount(test.y).tolist() == [50] * 10
    assert train.x.shape == (1000, 32, 32, 3)
    np.testing.assert_array_equal(few.read("test").x, test.x)
    np.testing.assert_array_equal(
        few.read("train").x, train.x.reshape(10, 100, 32, 32, 3)[:, :10].reshape(100, 32, 32, 3)
    )
    assert not {image.tobytes() for image in train.x} & {image.tobytes() for image in test.x}


def test_they_are_scikit_learns_with_their_labels():
    """Each, made small again, is nearest to one of the same label."""
    known = load_digits()
    for part in (digits(100).read("train"), digits(100).read("test")):
        x, y = part.x[::10], part.y[::10]
        assert (x == x[..., :1]).all()
        small = x[..., 0].reshape(-1, 8, 4, 8, 4).mean((2, 4)).reshape(-1, 64) / 255 * 16  # (N, 64)
        distance = np.abs(known.data[None] - small[:, None]).mean(2)  # (N, 1797), of 16 shades of grey
        assert distance.min(1).max() < 2
        np.testing.assert_array_equal(known.target[distance.argmin(1)], y)


def test_they_load_as_pixels():
    data = digits(10)
    data.load(torch.device("cpu"))
    images, labels = next(data.test_batches([range(500)]))
    assert images.shape == (500, 3, 32, 32)
    assert 0 == images.min() < images.max() == 1
    assert torch.equal(images[:, :1].expand(-1, 3, -1, -1), images)
    assert data.classes == [str(digit) for digit in range(10)]
    assert data.steps(50, drop_last=False) == 2
    assert torch.bincount(labels).tolist() == [50] * 10


def test_the_configs_statistics_are_those_of_the_training_images():
    pixels = digits(100).read("train").x / 255
    np.testing.assert_allclose(CONFIG.mean, pixels.mean((0, 1, 2)), atol=0.0005)
    np.testing.assert_allclose(CONFIG.std, pixels.std((0, 1, 2)), atol=0.0005)


@pytest.mark.parametrize("train_per_class", [0, 101])
def test_more_than_there_are(train_per_class):
    options = {key: CONFIG[key] for key in ("name", "num_classes", "image_size", "mean", "std")}
    with pytest.raises(
        InputError, match=rf"dataset\.train_per_class must be a whole number, .* 100, not {train_per_class}"
    ):
        Digits(train_per_class, **options)
