"""Tiny-ImageNet in its official structure, as it is often rearranged, and as it misleads."""

import shutil

import numpy as np
import pytest
from pictures import VALIDATION, WNIDS, crops, pixels_of, write_image, write_tiny_imagenet, zipped
from PIL import Image

from puzzlemix.data.tiny_imagenet import read_tiny_imagenet
from puzzlemix.runtime.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """The unpacked dataset, with a grey image in it."""
    folder = write_tiny_imagenet(tmp_path)
    Image.fromarray(crops(1, (64, 64))[0]).convert("L").save(folder / "train" / "n01" / "images" / "n01_2.JPEG")
    return folder


def rearrange(folder, images=""):
    """Move the validation images to folders of their classes."""
    for i, wnid in enumerate(VALIDATION):
        target = folder / "val" / wnid / images / f"val_{i}.JPEG"
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / "val" / "images" / f"val_{i}.JPEG").rename(target)
    (folder / "val" / "images").rmdir()


@pytest.mark.parametrize("packed", [False, True])
def test_images_and_labels(folder, packed):
    classes = sorted(WNIDS)
    train, test = read_tiny_imagenet(zipped(folder) if packed else folder)
    assert train.classes.tolist() == test.classes.tolist() == classes
    files = sorted(folder.glob("train/*/images/*.JPEG"))
    np.testing.assert_array_equal(train.x, [pixels_of(file) for file in files])
    assert [classes[label] for label in train.y] == [file.parts[-3] for file in files]
    np.testing.assert_array_equal(test.x, [pixels_of(folder / "val" / "images" / f"val_{i}.JPEG") for i in range(6)])
    assert [classes[label] for label in test.y] == VALIDATION
    assert (train.x.dtype, train.y.dtype) == (np.uint8, np.int64)
    grey = train.x[[file.name for file in files].index("n01_2.JPEG")]
    assert (grey == grey[..., :1]).all()


@pytest.mark.parametrize("annotated", [False, True])
@pytest.mark.parametrize("images", ["", "images"])
def test_rearranged_validation_images_keep_their_labels(folder, images, annotated):
    _, official = read_tiny_imagenet(folder)
    rearrange(folder, images)
    if not annotated:
        (folder / "val" / "val_annotations.txt").unlink()
    _, test = read_tiny_imagenet(folder)
    order = np.argsort(official.y, kind="stable")
    np.testing.assert_array_equal(test.x, official.x[order])
    np.testing.assert_array_equal(test.y, official.y[order])


def cut_short(path, bytes_left):
    path.write_bytes(path.read_bytes()[:bytes_left])


MISLEADING = {
    r"has no val/val_annotations\.txt, which gives the classes": lambda f: (f / "val/val_annotations.txt").unlink(),
    r"val_annotations\.txt does not name \['val/images/val_4": lambda f: cut_short(f / "val/val_annotations.txt", 100),
    r"has images of \['n04'\], which is not one of its classes": lambda f: (
        rearrange(f),
        write_image(f / "val/n04/a.JPEG", crops(1, (64, 64))[0]),
    ),
    r"does not hold train/ and val/": lambda f: shutil.rmtree(f / "train"),
    r"train/n02/images/n02_1\.JPEG cannot be read as an image": lambda f: cut_short(
        f / "train/n02/images/n02_1.JPEG", 300
    ),
    r"train/n02/images/n02_1\.JPEG has \(32, 64\) pixels, not 64 x 64": lambda f: write_image(
        f / "train/n02/images/n02_1.JPEG", crops(1, (64, 32))[0]
    ),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("message", MISLEADING)
def test_what_is_not_the_dataset_is_refused_with_a_remedy(folder, message, packed):
    MISLEADING[message](folder)
    source = zipped(folder) if packed else folder
    with pytest.raises(InputError, match=message) as refused:
        read_tiny_imagenet(source)
    assert str(source) in str(refused.value)
    assert "get the official tiny-imagenet-200.zip" in str(refused.value) or "replace it" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_or_damaged_zip(folder):
    path = zipped(folder)
    content = path.read_bytes()
    with pytest.raises(InputError, match=r"none\.zip does not exist: put the official tiny-imagenet-200\.zip"):
        read_tiny_imagenet(path.with_name("none.zip"))
    cut_short(path, len(content) // 2)
    with pytest.raises(InputError, match=r"tiny-imagenet-200\.zip is damaged .*: get the official"):
        read_tiny_imagenet(path)
    position = content.index(b"\xff\xd8", len(content) // 3) + 200
    path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
    with pytest.raises(InputError, match=r"tiny-imagenet-200\.zip is damaged \(Bad CRC-32"):
        read_tiny_imagenet(path)
