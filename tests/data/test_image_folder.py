"""One's own images, of any size and mode, in either layout."""

import numpy as np
import pytest
from pictures import crops, pixels_of, write_class_folders, write_image
from PIL import Image

from puzzlemix.data.image_files import read_rgb
from puzzlemix.data.image_folder import channel_statistics, read_image_folder
from puzzlemix.runtime.errors import InputError

CLASSES = ["ant", "bee", "cat"]


def as_bytes(images):
    return [image.tobytes() for image in images]


@pytest.mark.parametrize("tested_on", ["test", "val"])
def test_a_split_that_is_given(tmp_path, tested_on):
    write_class_folders(tmp_path / "train", CLASSES, 3, (32, 32), seed=0)
    write_class_folders(tmp_path / tested_on, CLASSES, 2, (32, 32), seed=1)
    train, test = read_image_folder(tmp_path, (32, 32), test_share=0.5, seed=0)
    for split, folder, labels in ((train, "train", [0, 0, 0, 1, 1, 1, 2, 2, 2]), (test, tested_on, [0, 0, 1, 1, 2, 2])):
        assert split.y.tolist() == labels
        assert split.classes.tolist() == CLASSES
        files = sorted((tmp_path / folder).rglob("*.JPEG"))
        np.testing.assert_array_equal(split.x, [pixels_of(file) for file in files])


def test_a_split_that_is_drawn(tmp_path):
    for number, (name, count) in enumerate(zip(CLASSES, (10, 5, 2), strict=True)):
        write_class_folders(tmp_path, [name], count, (16, 16), seed=number)
    train, test = read_image_folder(tmp_path, (16, 16), test_share=0.2, seed=0)
    assert np.bincount(train.y).tolist() == [8, 4, 1]
    assert np.bincount(test.y).tolist() == [2, 1, 1]
    files = [pixels_of(file) for file in sorted(tmp_path.rglob("*.JPEG"))]
    assert sorted(as_bytes(train.x) + as_bytes(test.x)) == sorted(as_bytes(files))
    again, _ = read_image_folder(tmp_path, (16, 16), test_share=0.2, seed=0)
    np.testing.assert_array_equal(again.x, train.x)
    others = [as_bytes(read_image_folder(tmp_path, (16, 16), 0.2, seed)[1].x) for seed in (1, 2, 3)]
    assert any(other != as_bytes(test.x) for other in others)


@pytest.mark.parametrize("upright", [True, False])
def test_images_are_resized_until_they_cover_the_size_and_their_centre_is_kept(tmp_path, upright):
    picture = crops(1, (90, 30) if upright else (30, 90))[0]
    for name in CLASSES:
        for i in range(2):
            write_image(tmp_path / name / f"{i}.png", picture)
    train, _ = read_image_folder(tmp_path, (20, 20), 0.5, 0)
    whole = Image.fromarray(picture).resize((20, 60) if upright else (60, 20), Image.Resampling.BICUBIC)
    centre = np.asarray(whole)[20:40] if upright else np.asarray(whole)[:, 20:40]
    assert np.abs(train.x.astype(int) - centre).max() <= 1


def test_rectangular_sizes_are_height_and_width(tmp_path):
    write_class_folders(tmp_path, CLASSES, 2, (50, 40))
    assert read_image_folder(tmp_path, (24, 40), 0.5, 0)[0].x.shape == (3, 24, 40, 3)


def test_every_mode_becomes_rgb(tmp_path):
    pixels = crops(1, (24, 24))[0]
    image = Image.fromarray(pixels)
    grey = np.asarray(image.convert("L"))
    image.convert("L").save(tmp_path / "L.png")
    image.convert("RGBA").save(tmp_path / "RGBA.png")
    image.convert("P").save(tmp_path / "P.png")
    image.convert("CMYK").save(tmp_path / "CMYK.jpg", quality=95)
    image.save(tmp_path / "RGB.webp", lossless=True)
    wanted = {"L.png": np.repeat(grey[..., None], 3, axis=-1)}
    wanted |= dict.fromkeys(("RGBA.png", "RGB.webp", "P.png", "CMYK.jpg"), pixels)
    for name, expected in wanted.items():
        far = np.abs(np.asarray(read_rgb(tmp_path / name)).astype(int) - expected).mean()
        assert far <= {"P.png": 25, "CMYK.jpg": 12}.get(name, 0), name


def test_statistics_are_the_channels_own():
    x = crops(20, (16, 24))
    mean, std = channel_statistics(x)
    np.testing.assert_allclose(mean, (x / 255).mean((0, 1, 2)), atol=0.0005)
    np.testing.assert_allclose(std, (x / 255).std((0, 1, 2)), atol=0.0005)
    x[..., 1] = 51
    assert [channel_statistics(x)[i] for i in (0, 1)] == [[mean[0], 0.2, mean[2]], [std[0], 1.0, std[2]]]


BAD = {
    r"bee/note\.jpg cannot be read as an image \(UnidentifiedImageError\): replace it, or delete it": (
        lambda folder: (folder / "bee" / "note.jpg").write_text("no image")
    ),
    r"holds one folder, so one class: give source=FOLDER": (
        lambda folder: [(folder / name).rename(folder.parent / name) for name in CLASSES[1:]]
    ),
    r"dog has 1 image: add another": lambda folder: write_class_folders(folder, ["dog"], 1, (16, 16)),
    r"empty holds no image \(.*\): give source=FOLDER": lambda folder: (folder / "empty").mkdir(),
    r"has train/ but neither test/ nor val/: add one, or give source=.*/train": (
        lambda folder: write_class_folders(folder / "train", CLASSES, 2, (16, 16))
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_read_is_named(tmp_path, message):
    folder = tmp_path / "images"
    write_class_folders(folder, CLASSES, 2, (16, 16))
    BAD[message](folder)
    with pytest.raises(InputError, match=message):
        read_image_folder(folder, (16, 16), 0.5, 0)


@pytest.mark.parametrize("test_share", [0, 1, -0.1])
def test_impossible_shares(tmp_path, test_share):
    with pytest.raises(InputError, match=rf"test_share must lie in \(0, 1\), not {test_share}"):
        read_image_folder(tmp_path, (16, 16), test_share, 0)


@pytest.mark.parametrize(
    ("ending", "dtype"), [("png", np.uint16), ("tif", np.uint16), ("pgm", np.uint16), ("tif", np.int32), ("tif", "f4")]
)
def test_images_of_more_than_8_bits_are_refused(tmp_path, ending, dtype):
    path = tmp_path / f"grey.{ending}"
    Image.fromarray(np.full((24, 24), 200, dtype)).save(path)
    with pytest.raises(InputError, match=rf"^{path} has more than 8 bits a channel: save it with 8 bits$"):
        read_rgb(path)
