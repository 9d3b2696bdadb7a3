"""Colour jitter and AlexNet's lighting, beside the release's formulas written image by image."""

import numpy as np
import torch
from pictures import crops

from puzzlemix.data.colors import EIGENVALUES, EIGENVECTORS, change_colors, draw_colors

CHANGES = ("brightness", "contrast", "saturation")


def pictures(count, size=(24, 32)):
    """Photographs, (count, 3, *size) float32 in [0, 1]."""
    return torch.from_numpy(crops(count, size)).permute(0, 3, 1, 2) / 255


def drawn(images, jitter=0.4, lighting=0.1, seed=0):
    return draw_colors(images, jitter, lighting, torch.Generator().manual_seed(seed))


def changed_by(images, colors):
    images = images.clone()
    change_colors(images, colors)
    return images


def released(image, changes, amounts, lights):
    """One image (3, H, W) after ColorJitter and Lighting of the release's imagenet/utils.py, in float64."""
    red, green, blue = image
    for change, amount in zip(changes.astype(int), amounts, strict=True):
        grey = 0.299 * red + 0.587 * green + 0.114 * blue  # (H, W)
        target = {"brightness": 0 * grey, "contrast": grey.mean(), "saturation": grey}[CHANGES[change]]
        red, green, blue = (channel + amount * (target - channel) for channel in (red, green, blue))
    colour = np.array(EIGENVECTORS) @ (np.array(EIGENVALUES) * lights)  # (3,)
    return np.stack([red, green, blue]) + colour[:, None, None]


def test_a_batch_is_changed_as_the_release_changes_each_image():
    images = pictures(40)
    colors = drawn(40)
    assert len({tuple(order) for order in colors.changes.tolist()}) == 6
    changed = changed_by(images, colors).numpy()
    inputs = (t.double().numpy() for t in (images, *colors))
    wanted = np.stack([released(*of) for of in zip(*inputs, strict=True)])
    np.testing.assert_allclose(changed, wanted, rtol=0, atol=1e-6)
    outside = (changed < 0) | (changed > 1)
    assert 0.05 < outside.mean() < 0.3


def test_each_option_alone():
    images = pictures(5)
    assert torch.equal(changed_by(images, drawn(5, jitter=0, lighting=0)), images)
    jittered, lit = changed_by(images, drawn(5, lighting=0)), changed_by(images, drawn(5, jitter=0))
    shifts = (lit - images).flatten(2)  # (5, 3, H W)
    torch.testing.assert_close(shifts, shifts[..., :1].expand_as(shifts))  # one colour for all pixels of an image
    assert (jittered - images).flatten(2).std(-1).min() > 0.001


def test_what_is_drawn():
    """Orders and amounts are uniform, lights are normal."""
    changes, amounts, lights = drawn(6000, jitter=0.4, lighting=0.1)
    _, counts = changes.unique(dim=0, return_counts=True)
    assert len(counts) == 6
    assert (counts - 1000).abs().max() < 150  # 5 standard deviations
    assert -0.4 <= amounts.min() < -0.399
    assert 0.399 < amounts.max() <= 0.4
    torch.testing.assert_close(amounts.std(0), torch.full((3,), 0.8 / 12**0.5), rtol=0.03, atol=0)
    torch.testing.assert_close(lights.std(0), torch.full((3,), 0.1), rtol=0.05, atol=0)


def test_the_components_are_orthogonal_and_of_unit_length():
    vectors = torch.tensor(EIGENVECTORS)
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(3), atol=1e-3, rtol=0)
