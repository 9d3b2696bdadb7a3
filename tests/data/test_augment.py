"""Whole batches of crops against one image at a time."""

import pytest
import torch
from pictures import crops

from puzzlemix.data.augment import crop_and_flip, draw_crops


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
    # Columns 0, 1, 2 as they are, and 2, 3, 4 in the mirror: 18 places and sides, two of which meet in column 2.
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
