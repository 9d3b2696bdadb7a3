"""AugMix's operations on batches against Pillow, which the authors' code calls for each image."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from benchmarks.photographs import crops
from puzzlemix.mixing.augmix import LEVELS, OPERATIONS, apply

HEIGHT, WIDTH = 24, 33
LEVELS_TRIED = (0.1, 0.7, 1.0, 2.3, 2.99, 5.5, 9.9)


def by_pillow(image, name, level, sign):
    """The result of the authors' `augmentations.py` for an image (C, H, W) uint8, at a level from 0 to 10."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    width, height = picture.size

    def whole(largest):
        return int(level * largest / LEVELS)

    def placed(*coefficients):
        return picture.transform(picture.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)

    result = {
        "autocontrast": lambda: ImageOps.autocontrast(picture),
        "equalize": lambda: ImageOps.equalize(picture),
        "posterize": lambda: ImageOps.posterize(picture, 4 - whole(4)),
        "solarize": lambda: ImageOps.solarize(picture, 256 - whole(256)),
        "rotate": lambda: picture.rotate(sign * whole(30), resample=Image.Resampling.BILINEAR),
        "shear_x": lambda: placed(1, sign * level * 0.3 / LEVELS, 0, 0, 1, 0),
        "shear_y": lambda: placed(1, 0, 0, sign * level * 0.3 / LEVELS, 1, 0),
        "translate_x": lambda: placed(1, 0, sign * whole(width / 3), 0, 1, 0),
        "translate_y": lambda: placed(1, 0, 0, 0, 1, sign * whole(height / 3)),
    }[name]()
    return torch.from_numpy(np.array(result)).permute(2, 0, 1)


@pytest.fixture(scope="module")
def images():
    """Photographs; one is dark, one has a single colour, one has two values."""
    images = crops(2 * len(LEVELS_TRIED), HEIGHT, WIDTH, seed=0)
    images[1] //= 3
    images[2] = 77
    images[3] = (images[3] > 128) * 255
    return images


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_pillows(images, name):
    level, sign = np.repeat(LEVELS_TRIED, 2), np.tile([-1.0, 1.0], len(LEVELS_TRIED))
    ours = apply(images, np.full(len(images), OPERATIONS.index(name)), level, sign)
    for image, result, *strength in zip(images, ours, level, sign, strict=True):
        wanted = by_pillow(image, name, *strength)
        difference = (result.int() - wanted.int()).abs()
        assert difference.max() <= 1, strength
        # Float32 rounds differently from Pillow's float64, in autocontrast also where values are whole in both.
        assert name == "autocontrast" or (difference > 0).double().mean() < 0.005, strength


def test_each_image_of_a_batch_has_its_own_operation_and_strength(images):
    operation = np.array([*range(len(OPERATIONS)), -1, 3, 3, 5, 5])
    level = np.linspace(0.5, 9.5, len(operation))
    sign = np.where(np.arange(len(operation)) % 3, 1.0, -1.0)
    before = images.clone()
    together = apply(images, operation, level, sign)
    for i in range(len(images)):
        assert torch.equal(together[[i]], apply(images[[i]], *(drawn[[i]] for drawn in (operation, level, sign))))
    assert torch.equal(together[9], images[9])  # NONE
    assert torch.equal(images, before)
