"""Each corruption: against the library that has ImageNet's severities, against plain loops, and by its properties."""

import numpy as np
import pytest
from pictures import crops, photograph

pytest.importorskip("imagecorruptions")  # with it come OpenCV, scikit-image and the photographs of frost

import cv2
import imagecorruptions
from PIL import Image
from sklearn.datasets import load_digits

from puzzlemix.corruptions import RELEASED, SEVERITIES, STANDARD
from puzzlemix.corruptions.blur import _shuffle, motion_blur, trail
from puzzlemix.corruptions.corrupt import DRAWN, FIXED, corrupt
from puzzlemix.corruptions.digital import _stretched
from puzzlemix.corruptions.severities import CIFAR, IMAGENET, TINY_IMAGENET, severities_for
from puzzlemix.corruptions.weather import diamond_square
from puzzlemix.streams import numpy_stream

COUNT = 4


def small_photographs(side, count=COUNT):
    """Crops of photographs, shrunk so that they show something, (count, side, side, 3) uint8."""
    large = crops(count, (240, 240))
    return np.stack([np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BOX)) for image in large])


def digits(count=COUNT):
    """Handwritten digits, (count, 32, 32, 3) uint8."""
    grey = [Image.fromarray((digit * 15).astype(np.uint8)) for digit in load_digits().images[:count]]  # 0 to 16
    return np.stack([np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR).convert("RGB")) for image in grey])


IMAGES = {
    "digits": digits(),
    "32": small_photographs(32),
    "64": small_photographs(64),
    "224": small_photographs(224),
    "wide": crops(2, (40, 56)),
    "upright": crops(2, (130, 70)),
}
PHOTOGRAPH = photograph("china.jpg")[100:324, 200:424]  # (224, 224, 3)


def corrupted(name, severity, images, seed=0):
    """A batch under a corruption, the images in their places from 0."""
    return corrupt(name, seed, severity, range(len(images)), images)


def change(before, after):
    """Mean absolute difference in grey levels."""
    return np.abs(after.astype(float) - before).mean()


def test_there_are_the_released_names():
    assert sorted(RELEASED) == sorted({*FIXED, *DRAWN}) == sorted(CIFAR) == sorted(TINY_IMAGENET) == sorted(IMAGENET)
    assert len(RELEASED) == 19
    assert RELEASED[:15] == STANDARD
    assert all(len(table[name]) == len(SEVERITIES) for table in (CIFAR, TINY_IMAGENET, IMAGENET) for name in RELEASED)


@pytest.mark.parametrize(
    ("size", "release"),
    [
        ((32, 32), "CIFAR-C"),
        ((48, 40), "CIFAR-C"),
        ((32, 49), "Tiny-ImageNet-C"),
        ((64, 64), "Tiny-ImageNet-C"),
        ((129, 64), "ImageNet-C"),
        ((224, 224), "ImageNet-C"),
    ],
)
def test_the_longest_side_chooses_the_table(size, release):
    assert severities_for(*size).release == release


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("name", RELEASED)
def test_all_run_on_images_of_any_size(name, kind):
    images = IMAGES[kind]
    before = images.copy()
    for severity in SEVERITIES:
        after = corrupted(name, severity, images)
        assert after.shape == images.shape
        assert after.dtype == np.uint8
        assert change(images, after) > 0 or (kind, name) == ("digits", "saturate")  # grey has no saturation
        np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("name", RELEASED)
def test_an_image_follows_from_seed_severity_and_place_alone(name):
    images = IMAGES["32"]
    together = corrupted(name, 3, images, seed=5)
    np.testing.assert_array_equal(corrupted(name, 3, images, seed=5), together)
    for place in (2, 0):  # alone, and in another order
        np.testing.assert_array_equal(corrupt(name, 5, 3, [place], images[place][None])[0], together[place])
    same = np.stack([images[0]] * 2)
    first, second = corrupt(name, 5, 3, [0, 1], same)
    other = corrupt(name, 6, 3, [0], same[:1])[0]
    if name in DRAWN:
        assert (first != second).any()
        assert (first != other).any()
    else:
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, other)


def test_each_severity_draws_anew():
    grey = np.full((1, 64, 64, 3), 128, np.uint8)
    weak, strong = (corrupted("gaussian_noise", severity, grey).astype(float).ravel() for severity in (1, 2))
    assert abs(np.corrcoef(weak, strong)[0, 1]) < 0.05


GROWS = (  # with severity, in each of the tables; the others change what they do, or are as strong but coarser
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "speckle_noise",
    "defocus_blur",
    "motion_blur",
    "zoom_blur",
    "gaussian_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
)


@pytest.mark.parametrize("side", [32, 64, 224])
@pytest.mark.parametrize("name", GROWS)
def test_a_higher_severity_changes_more(name, side):
    images = small_photographs(side, 1792 // side)
    changes = [change(images, corrupted(name, severity, images)) for severity in SEVERITIES]
    assert changes == sorted(set(changes))


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", FIXED)
def test_what_is_not_drawn_is_as_the_library_has_it(name, severity):
    ours = corrupted(name, severity, PHOTOGRAPH[None])[0].astype(int)
    library = imagecorruptions.corrupt(PHOTOGRAPH, severity, name).astype(int)
    difference = np.abs(ours - library)
    if name == "zoom_blur":  # linear between pixels by NumPy here, by SciPy there: a rounding in 10,000
        assert difference.max() <= 1
        assert difference.mean() < 1e-3
    else:
        assert difference.max() == 0


# Not frost, which the library scales, and draws among six photographs instead of five; nor elastic_transform, which it
# does without the affine map, in strengths of its own.
AS_IN_THE_LIBRARY = {  # corruption -> how often it is drawn, and by which share the mean change may differ then
    "gaussian_noise": (4, 0.01),
    "shot_noise": (4, 0.01),
    "impulse_noise": (4, 0.03),
    "speckle_noise": (4, 0.01),
    "glass_blur": (4, 0.02),
    "motion_blur": (16, 0.1),
    "snow": (6, 0.04),
    "fog": (16, 0.25),
    "spatter": (16, 0.15),
}


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", AS_IN_THE_LIBRARY)
def test_what_is_drawn_is_as_strong_as_in_the_library(name, severity):
    draws, tolerance = AS_IN_THE_LIBRARY[name]
    if (name, severity) == ("spatter", 1):
        tolerance = 0.5  # a few drops an image
    np.random.seed(0)  # the library's
    same = np.stack([PHOTOGRAPH] * draws)
    ours = change(same, corrupted(name, severity, same))
    library = change(same, np.stack([imagecorruptions.corrupt(image, severity, name) for image in same]))
    assert ours == pytest.approx(library, rel=tolerance)


@pytest.mark.parametrize("angle", [-45, -20.5, 0, 33, 45, -135, -90])
def test_a_trail_is_the_librarys(angle):
    from imagecorruptions.corruptions import _motion_blur

    x = PHOTOGRAPH.astype(np.float32)
    np.testing.assert_allclose(trail(x, 15, 8, angle), _motion_blur(x, 15, 8, angle), atol=1e-3)
    np.testing.assert_allclose(trail(x[..., 0], 10, 3, angle), _motion_blur(x[..., 0], 10, 3, angle), atol=1e-3)


def test_a_trail_longer_than_the_image_repeats_its_edge():
    image = np.tile(np.arange(8, dtype=np.float32), (8, 1))
    seen = trail(image, 20, 100.0, 0)  # 41 taps, nearly as heavy: most of them on the last column
    assert (np.diff(seen[0]) > 0).all()
    assert seen.min() > 6


def test_motion_leaves_a_plain_image_alone():
    plain = np.full((3, 32, 32, 3), 77, np.uint8)
    np.testing.assert_array_equal(motion_blur(plain, (8, 2), [numpy_stream("test", i) for i in range(3)]), plain)


def test_glass_copies_neighbours_as_numpys_swap_of_views_does():
    """The release's loop, word for word as an algorithm: two rows of one array swapped as a tuple."""
    reach, rounds = 2, 3
    image = crops(1, (20, 24))[0]
    steps = np.random.default_rng(0).integers(-reach, reach, (rounds, 20 - 2 * reach, 24 - 2 * reach, 2), np.int8)
    wanted = image.copy()
    for r in range(rounds):
        for i, y in enumerate(range(20 - reach, reach, -1)):
            for j, x in enumerate(range(24 - reach, reach, -1)):
                dy, dx = steps[r, i, j]
                wanted[y, x], wanted[y + dy, x + dx] = wanted[y + dy, x + dx], wanted[y, x]
    shuffled = image.copy()
    _shuffle(shuffled, steps, reach)
    np.testing.assert_array_equal(shuffled, wanted)
    assert len(np.unique(shuffled.reshape(-1, 3), axis=0)) < len(np.unique(image.reshape(-1, 3), axis=0))  # no swap


def test_fog_is_a_diamond_square_landscape():
    """Against a loop over single points."""
    side, decay = 8, 1.7
    draws = np.random.default_rng(0).uniform(-1, 1, (1, side, side))
    heights = np.zeros((side, side))
    step, size = side, 100.0
    while step >= 2:
        half = step // 2
        for diagonal in (True, False):  # squares' middles first, then their sides'
            for y in range(0, side, half):
                for x in range(0, side, half):
                    odd_y, odd_x = y // half % 2, x // half % 2
                    if (odd_y and odd_x) if diagonal else odd_y != odd_x:
                        around = (
                            [(-1, -1), (-1, 1), (1, -1), (1, 1)] if diagonal else [(-1, 0), (1, 0), (0, -1), (0, 1)]
                        )
                        mean = np.mean([heights[(y + half * a) % side, (x + half * b) % side] for a, b in around])
                        heights[y, x] = mean + size**2 * draws[0, y, x]
        step, size = half, size / decay
    wanted = (heights - heights.min()) / (heights.max() - heights.min())
    np.testing.assert_allclose(diamond_square(draws, decay)[0], wanted, atol=1e-12)


@pytest.mark.parametrize("kind", ["32", "64", "224"])
def test_frost_is_a_part_of_one_of_five_photographs(kind):
    """On black images frost is all there is; each is found in a photograph."""
    from importlib.resources import files

    images = np.zeros_like(IMAGES[kind])
    images = np.concatenate([images] * 4)
    _, share, scale = severities_for(*images.shape[1:3]).of["frost"][0]
    found = set()
    for frosted in corrupted("frost", 1, images):
        for name in ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg", "frost6.jpg"):
            photo = cv2.imread(str(files("imagecorruptions") / "frost" / name))
            photo = cv2.resize(photo, (0, 0), fx=scale, fy=scale)
            wanted = (photo[..., ::-1] * share).astype(np.uint8)
            if cv2.matchTemplate(wanted, frosted, cv2.TM_SQDIFF_NORMED).min() < 1e-6:
                found.add(name)
                break
        else:
            pytest.fail("an image's frost is in none of the photographs")
    assert len(found) >= 3
    assert "frost6.jpg" not in found


def test_the_affine_map_takes_corners_where_it_says():
    x = np.zeros((60, 60, 3), np.float32)
    corners = np.array([[50, 50], [50, 10], [10, 10]])  # (x, y): a third of the side off the middle
    moves = np.array([[3, -2], [-4, 1], [5, 6]])
    for column, row in corners:
        x[row, column] = 1
    stretched = _stretched(x, moves)
    for column, row in corners + moves:
        assert stretched[row - 1 : row + 2, column - 1 : column + 2].max() > 0.5
    np.testing.assert_array_equal(_stretched(x, np.zeros((3, 2))), x)


def test_drops_of_water_brighten_and_mud_covers():
    """At severities 1 to 3 spatter adds light, at 4 and 5 it is brown and dark."""
    grey = np.full((8, 64, 64, 3), 150, np.uint8)
    for severity in SEVERITIES:
        after = corrupted("spatter", severity, grey).astype(int)
        hit = (after != 150).any(-1)
        assert 0.001 < hit.mean() < 0.5
        red, green, blue = after[hit].mean(0)
        assert (red < green == blue > 150) if severity <= 3 else (150 > red > green > blue)


def test_impulses_are_black_and_white_in_equal_shares():
    grey = np.full((8, 224, 224, 3), 150, np.uint8)
    for severity, share in zip(SEVERITIES, IMAGENET["impulse_noise"], strict=True):
        after = corrupted("impulse_noise", severity, grey)
        assert (after == 0).mean() == pytest.approx(share / 2, rel=0.03)
        assert (after == 255).mean() == pytest.approx(share / 2, rel=0.03)
        assert set(np.unique(after)) == {0, 150, 255}
