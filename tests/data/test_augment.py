"""Augmentation of whole batches against one image at a time: crops, and the release's colour changes."""

import numpy as np
import pytest
import torch
from pictures import crops

from puzzlemix.data.augment import EIGENVALUES, EIGENVECTORS, change_colors, crop_and_flip, draw_colors, draw_crops

CHANGES = ("brightness", "contrast", "saturation")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("padding", [0, 2, 4])
@pytest.mark.parametrize("size", [(32, 32), (20, 30)])
def test_against_a_loop_over_images(size, padding, flip):
    images = torch.from_numpy(crops(12, size)).permute(0, 3, 1, 2)  # (12, 3, H, W) uint8
    augmented = crop_and_flip(images, padding, draw_crops(12, padding, flip, generator()))
    draws = generator()
    top, left, mirrored = (torch.randint(n, (12, 1), generator=draws) for n in (2 * padding + 1, 2 * padding + 1, 2))
    for i, image in enumerate(images):
        padded = torch.zeros(3, size[0] + 2 * padding, size[1] + 2 * padding, dtype=torch.uint8)
        padded[:, padding : padding + size[0], padding : padding + size[1]] = image
        wanted = padded[:, top[i, 0] : top[i, 0] + size[0], left[i, 0] : left[i, 0] + size[1]]
        if flip and mirrored[i, 0]:
            wanted = wanted.flip(-1)
        assert torch.equal(augmented[i], wanted)


def test_without_crop_or_flip_nothing_changes():
    images = torch.rand(5, 3, 8, 8)
    same = crop_and_flip(images, 0, draw_crops(5, 0, False, generator()))
    assert torch.equal(same, images)
    assert same.data_ptr() != images.data_ptr()


def test_all_places_and_both_sides_are_equally_likely():
    images = torch.zeros(6000, 1, 5, 5)
    images[:, 0, 2, 1] = 1  # moves by up to one pixel, and to column 3 in a mirrored image
    moved = crop_and_flip(images, 1, draw_crops(6000, 1, True, generator())).mean(0)[0] * 6000  # counts, (5, 5)
    # Columns 0, 1, 2 as they are, and 2, 3, 4 in the mirror: 18 places and sides, and two of them meet in column 2.
    wanted = torch.zeros(5, 5)
    wanted[1:4] = 6000 / 18 * torch.tensor([1, 1, 2, 1, 1])
    assert (moved - wanted).abs().max() < 5 * (6000 / 9) ** 0.5
    assert moved[wanted == 0].sum() == 0


def test_draws_do_not_depend_on_what_is_asked_for():
    states = []
    for padding, flip in ((0, False), (2, True)):
        draws = generator()
        draw_crops(4, padding, flip, draws)
        states.append(draws.get_state())
    assert torch.equal(*states)


# --- colours ---


def pictures(count, size=(24, 32)):
    """Photographs, (count, 3, *size) float32 in [0, 1]."""
    return torch.from_numpy(crops(count, size)).permute(0, 3, 1, 2) / 255


def drawn(images, jitter=0.4, lighting=0.1, seed=0):
    return draw_colors(images, jitter, lighting, generator(seed))


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
