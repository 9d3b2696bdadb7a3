"""Which files of class folders are images, and what their pixels are, whoever reads them."""

import struct
import zlib

import numpy as np
import pytest
import torch
from pictures import crops, write_class_folders, write_image
from PIL import Image
from torchvision.datasets import ImageFolder

from puzzlemix.data.folders import ImageFolders
from puzzlemix.data.image_files import find_images, read_rgb
from puzzlemix.data.image_folder import read_image_folder
from puzzlemix.reporting.pictures import read_images
from puzzlemix.runtime.errors import InputError

CLASSES = ["bee", "cat"]
SIDEWAYS = Image.Exif()
SIDEWAYS[0x0112] = 6  # to be turned clockwise by a quarter to be seen upright


def add_hidden(folder):
    """Add what file managers and notebooks leave in folders."""
    image = (folder / "cat" / "0.JPEG").read_bytes()
    (folder / ".git").mkdir()
    for name in (".ipynb_checkpoints/0.JPEG", "cat/.ipynb_checkpoints/0-checkpoint.JPEG"):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(image)
    for name in (".DS_Store", "cat/.DS_Store", "cat/._0.JPEG"):
        (folder / name).write_bytes(b"\0\5\x16\7")


def test_images_are_those_of_torchvision_in_its_order(tmp_path):
    folder = tmp_path / ".cache" / "images"  # the dot is not in the folder of images
    write_class_folders(folder, ["b", "a", "a-b"], 3, (8, 8))
    for name in ("a/x/1.png", "a/x-y/1.png", "a/x/z/1.png", "a/Z.PNG", "a/2\udcff.png"):  # the last is not UTF-8
        write_image(folder / name, crops(1, (8, 8))[0])
    (folder / "a" / "x" / "notes.txt").write_text("not an image")
    wanted = ImageFolder(str(folder))
    found = find_images(folder, "remedy")
    assert found.classes == wanted.classes
    assert [(str(found.path(i)), label) for i, label in enumerate(found.labels)] == wanted.samples


def test_hidden_files_are_left_out_of_ones_own_images(tmp_path, capsys):
    clean, messy = tmp_path / "clean", tmp_path / "messy"
    for folder in (clean, messy):
        write_class_folders(folder / "images", CLASSES, 4, (16, 16))
        for split in ("train", "test"):
            write_class_folders(folder / "splits" / split, CLASSES, 2, (16, 16))
    wanted = [read_image_folder(clean / layout, (16, 16), 0.5, 0) for layout in ("images", "splits")]
    assert capsys.readouterr().err == ""
    for folder in ("images", "splits/train", "splits/test"):
        add_hidden(messy / folder)
    read = [read_image_folder(messy / layout, (16, 16), 0.5, 0) for layout in ("images", "splits")]
    for split, expected in zip(sum(read, ()), sum(wanted, ()), strict=True):
        assert split.classes.tolist() == CLASSES
        for name in ("x", "y"):
            np.testing.assert_array_equal(getattr(split, name), getattr(expected, name))
    assert capsys.readouterr().err == ""


def test_a_class_may_be_called_train(tmp_path):
    write_class_folders(tmp_path, ["bus", "train"], 2, (16, 16))
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    assert read_image_folder(tmp_path, (16, 16), 0.5, 0)[0].classes.tolist() == ["bus", "train"]


def test_hidden_files_are_left_out_of_large_datasets(tmp_path):
    for split in ("train", "val"):
        write_class_folders(tmp_path / "pets" / split, CLASSES, 2, (16, 16))
        add_hidden(tmp_path / "pets" / split)
    statistics = {"mean": [0.5] * 3, "std": [0.2] * 3}
    options = {"name": "pets", "num_classes": 2, "image_size": [16, 16], "root": str(tmp_path)} | statistics
    data = ImageFolders(test_resize=16, workers=0, **options)
    data.load(torch.device("cpu"))
    assert (data.classes, data.train_count, data.test_count) == (CLASSES, 4, 4)


def test_files_that_are_not_images_are_counted_where_it_is_asked_for(tmp_path, capsys):
    write_class_folders(tmp_path, CLASSES, 1, (8, 8))
    for ending in ("gif", "heic", "txt"):
        (tmp_path / "bee" / f"1.{ending}").write_bytes(b"\0")
    (tmp_path / "labels.csv").write_text("")
    for warn in (False, True):
        found = find_images(tmp_path, "remedy", warn)
        assert found.names.tolist() == [b"bee/0.JPEG", b"cat/0.JPEG"]
        line = f"warning: {tmp_path}: left out 3 files that are not images (.jpg, .jpeg, .png, .ppm, "
        told = capsys.readouterr().err
        assert (told.count("\n"), told.startswith(line)) == ((1, True) if warn else (0, False))


def test_classes_without_images_are_one_line(tmp_path):
    write_class_folders(tmp_path, CLASSES, 1, (8, 8))
    for name in ("dog", "eel"):
        (tmp_path / name).mkdir()
    for name in ("1.heic", "notes.txt", "._1.jpg"):
        (tmp_path / "dog" / name).write_bytes(b"\0")
    with pytest.raises(InputError, match=r"dog holds no image \(\.jpg, \.jpeg, \.png, .*\): remedy$"):
        find_images(tmp_path, "remedy")


def test_of_an_animation_the_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for ending in ("gif", "png", "webp"):
        path = tmp_path / f"film.{ending}"
        frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
        with Image.open(path) as film:
            assert film.n_frames == 2
        assert read_rgb(path).getpixel((0, 0)) == (255, 0, 0)


def png_of(rows, bit_depth, colour_type, transparent):
    """A PNG file of grey levels (H, W) or colours (H, W, 3), in its own byte order, with one of them transparent."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = rows.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = (b"IHDR", header), (b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)), (b"IDAT", pixels)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in (*chunks, (b"IEND", b"")))


def test_white_shows_through_transparent_pixels(tmp_path):
    pixels, alpha = crops(1, (6, 6))[0], np.zeros((6, 6), np.uint8)
    alpha[:, 2:4], alpha[:, 4:] = 128, 255
    rgba = Image.fromarray(np.dstack([pixels, alpha]))
    for name in ("rgba.png", "rgba.tif", "rgba.webp"):
        rgba.save(tmp_path / name, lossless=True, exact=True)
        share = alpha[..., None] / 255
        wanted = pixels * share + 255 * (1 - share)
        assert np.abs(np.asarray(read_rgb(tmp_path / name)) - wanted).max() <= 1, name

    grey = Image.fromarray(np.uint8([[10, 10, 10]]))
    grey.putalpha(Image.fromarray(np.uint8([[0, 51, 255]])))
    grey.save(tmp_path / "la.png")
    assert np.asarray(read_rgb(tmp_path / "la.png"))[0, :, 0].tolist() == [255, 206, 10]

    palette = Image.fromarray(np.uint8([[0, 1, 2]]), "P")
    palette.putpalette([10] * 3 + [20] * 3 + [30] * 3)
    palette.save(tmp_path / "one.png", transparency=1)
    palette.save(tmp_path / "one.gif", transparency=1)
    palette.save(tmp_path / "several.png", transparency=b"\0\x33\xff")
    for name, wanted in {"one.png": [10, 255, 30], "one.gif": [10, 255, 30], "several.png": [255, 208, 30]}.items():
        assert np.asarray(read_rgb(tmp_path / name))[0, :, 0].tolist() == wanted, name

    one_of_three = {
        "8 bits.png": (png_of(np.uint8([[9, 10, 11]]), 8, 0, [10]), [9, 255, 11]),
        "1 bit.png": (png_of(np.uint8([[0b01000000]]), 1, 0, [0]), [255]),
        "rgb.png": (png_of(np.uint8([[[9] * 3, [10] * 3, [10, 10, 11]]]), 8, 2, [10] * 3), [9, 255, 10]),
    }
    for name, (file, wanted) in one_of_three.items():
        (tmp_path / name).write_bytes(file)
        assert np.asarray(read_rgb(tmp_path / name))[0, :, 0].tolist() == wanted, name


def test_pictures_of_puzzles_and_training_images_are_read_alike(tmp_path):
    """Turned upright, grey, transparent, in colour: `visualize.py images=` shows what the preparation makes."""
    pixels = crops(1, (20, 16))[0]
    upright, grey = np.rot90(pixels, -1), pixels[..., 0]
    opaque = np.full((20, 16, 1), 255, np.uint8)
    images = {
        "1.png": (pixels, SIDEWAYS, upright),
        "2.png": (np.dstack([pixels, opaque]), SIDEWAYS, upright),
        "3.png": (np.dstack([pixels, 0 * opaque]), SIDEWAYS, np.full((16, 20, 3), 255)),
        "4.png": (grey, SIDEWAYS, np.dstack([np.rot90(grey, -1)] * 3)),
        "5.png": (pixels, None, None),  # which is resized
    }
    for name, (image, exif, _) in images.items():
        for folder in ("train/a", "train/b", "test/a", "test/b"):
            write_image(tmp_path / folder / name, image, **({"exif": exif} if exif else {}))
    prepared, _ = read_image_folder(tmp_path, (16, 20), 0.5, 0)
    shown = read_images([str(tmp_path / "train" / "a" / name) for name in images], (16, 20), channels=3)
    np.testing.assert_array_equal((shown * 255).round().byte().permute(0, 2, 3, 1), prepared.x[:5])
    for read, (_, _, wanted) in zip(prepared.x[:4], list(images.values())[:4], strict=True):
        np.testing.assert_array_equal(read, wanted)


def test_exif_data_that_cannot_be_read_are_one_line(tmp_path):
    for label in ("a", "b"):
        for i in range(2):
            write_image(tmp_path / label / f"{i}.jpg", crops(1, (8, 8))[0], exif=b"Exif\0\0damaged, all of it")
    with pytest.raises(InputError, match=r"^\S+/[ab]/[01]\.jpg cannot be read as an image \(SyntaxError\): replace it"):
        read_image_folder(tmp_path, (8, 8), 0.5, 0)
