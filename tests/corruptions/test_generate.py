"""Regenerated sets: written once, whole, in the formats of the releases, and of one seed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import crops, pixels_of, write_class_folders
from PIL import Image

from puzzlemix.corruptions import RELEASED, SEVERITIES, CorruptedImages, corruption_folder
from puzzlemix.data.arrays import ArrayData
from puzzlemix.data.digits import Digits
from puzzlemix.data.folders import ImageFolders
from puzzlemix.data.npz import Arrays, write_arrays
from puzzlemix.errors import InputError, RunError

pytest.importorskip("imagecorruptions")  # with it come OpenCV, scikit-image and the photographs of frost

from puzzlemix.corruptions.corrupt import corrupt
from puzzlemix.corruptions.generate import generate

Y = np.array([2, 0, 1, 1, 0])  # of the test images


def arrays(root, size=(32, 32), channels=3, seed=0, y=Y):
    """A dataset in memory, prepared."""
    for split in ("train", "test"):
        x = crops(len(y), size, seed)[..., :channels]
        write_arrays(root / "pets" / f"{split}.npz", Arrays(x, y, np.array(["ant", "bee", "cat"])))
    return ArrayData("pets", 3, list(size), [0.5] * channels, [0.2] * channels, root=str(root))


def folders(root):
    """A dataset in folders, prepared; its files have endings of all kinds."""
    for split in ("train", "val"):
        write_class_folders(root / "pets" / split, ["ant", "bee"], 2, (90, 70))
    (root / "pets" / "val" / "bee" / "0.JPEG").rename(root / "pets" / "val" / "bee" / "zero.jpg")
    return ImageFolders("pets", 2, [64, 48], [0.5] * 3, [0.2] * 3, test_resize=66, workers=0, root=str(root))


def content(folder):
    """Every file below a folder, as bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def times(folder):
    """When each file was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}


def test_arrays_hold_the_test_images_under_every_corruption(tmp_path):
    data = arrays(tmp_path, (40, 36))
    assert generate(data, RELEASED, seed=3, force=False) == 19 * 5 * 5
    folder = corruption_folder(data)
    assert folder == tmp_path / "pets-c-regenerated"
    assert {path.stem for path in folder.glob("*.npy")} == {*RELEASED, "labels"}

    data.load(torch.device("cpu"))
    images = CorruptedImages(folder, data)
    assert images.severities == dict.fromkeys(RELEASED, SEVERITIES)
    assert images.missing == []
    assert images.regenerated == "made here of 5 test images of pets, with severities of CIFAR-C; not the released set"
    clean = data.read("test").x
    for name in RELEASED:
        for severity in SEVERITIES:
            ((pixels, labels),) = images.batches(name, severity, [range(images.images)])
            wanted = corrupt(name, 3, severity, range(5), clean)
            np.testing.assert_array_equal((pixels * 255).round().byte().permute(0, 2, 3, 1), wanted)
            np.testing.assert_array_equal(labels, Y)


def test_the_record_says_what_a_set_is(tmp_path):
    generate(arrays(tmp_path, (64, 64)), ["fog"], seed=3, force=False)
    record = json.loads((tmp_path / "pets-c-regenerated" / "regenerated.json").read_text())
    assert record["dataset"] == "pets"
    assert (record["seed"], record["severities"], record["test_images"]) == (3, "Tiny-ImageNet-C", 5)
    assert record["classes"] == ["ant", "bee", "cat"]
    assert set(record["versions"]) == {"numpy", "scipy", "pillow", "opencv", "scikit-image"}
    assert record["versions"]["numpy"] == np.__version__


def test_folders_hold_the_centres_as_jpeg_under_the_names_that_they_had(tmp_path):
    data = folders(tmp_path)
    assert generate(data, ["contrast", "gaussian_noise"], seed=0, force=False) == 2 * 5 * 4
    folder = corruption_folder(data)
    names = {str(path.relative_to(folder / "contrast" / "5")) for path in (folder / "contrast" / "5").rglob("*.*")}
    assert names == {"ant/0.JPEG", "ant/1.JPEG", "bee/1.JPEG", "bee/zero.jpg"}

    data.load(torch.device("cpu"))
    images = CorruptedImages(folder, data)
    assert images.severities == dict.fromkeys(["gaussian_noise", "contrast"], SEVERITIES)
    ((clean, labels),) = data.test_batches([range(4)])
    clean = (clean * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for name in images.severities:
        ((pixels, of_pixels),) = images.batches(name, 5, [range(images.images)])
        assert of_pixels.tolist() == labels.tolist()
        exact = corrupt(name, 0, 5, range(4), clean)
        for i, image in enumerate(exact):
            Image.fromarray(image).save(tmp_path / "wanted.jpg", quality=85)
            wanted = pixels_of(tmp_path / "wanted.jpg")
            np.testing.assert_array_equal((pixels[i] * 255).round().byte().permute(1, 2, 0), wanted)


@pytest.mark.parametrize("kind", [arrays, folders])
def test_what_is_there_is_left_and_what_is_not_is_made_the_same(tmp_path, kind):
    data, folder = kind(tmp_path), tmp_path / "pets-c-regenerated"
    names = ["snow", "fog", "frost", "glass_blur"]
    generate(data, names, seed=0, force=False)
    whole = content(folder)
    assert generate(data, names, seed=0, force=False) == 0

    lost = [path for path in sorted(folder.rglob("*.*")) if "fog" in str(path) or "/4/bee" in str(path)]
    assert len(lost) < len(whole)
    for path in lost:
        path.unlink()
    (folder / "fog.npy.unfinished").write_bytes(b"half")  # of a process that was killed
    kept = times(folder)
    assert 0 < generate(data, names, seed=0, force=False) < len(names) * 5 * 5
    assert content(folder) | {"fog.npy.unfinished": b""} == whole | {"fog.npy.unfinished": b""}
    now = times(folder)
    assert all(now[path] == before for path, before in kept.items() if path.suffix != ".unfinished")

    path = next(path for path in sorted(folder.rglob("*.*")) if "frost" in str(path))
    path.write_bytes(b"damaged")
    assert generate(data, ["frost"], seed=0, force=True) == 5 * len(data.test_files().labels if kind is folders else Y)
    assert path.read_bytes() == whole[str(path.relative_to(folder))]


TO_BE_KILLED = """
import sys
from pathlib import Path
from test_generate import digits, generate
generate(digits(Path(sys.argv[1])), ["contrast", "fog", "zoom_blur"], seed=0, force=False)
"""


def digits(root):
    """A dataset that takes some seconds; it is in a library."""
    options = {"name": "digits", "num_classes": 10, "image_size": [32, 32], "mean": [0.3] * 3, "std": [0.3] * 3}
    return Digits(10, root=str(root), **options)


def test_a_killed_process_is_taken_up_again(tmp_path):
    data, folder = digits(tmp_path), tmp_path / "digits-c-regenerated"
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    command = [sys.executable, "-c", TO_BE_KILLED, tmp_path]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}, stderr=subprocess.PIPE)
    try:
        while not (folder / "contrast.npy").is_file():
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
    finally:
        process.kill()
        process.communicate()
    assert not (folder / "zoom_blur.npy").is_file()
    made = (folder / "contrast.npy").stat().st_mtime_ns

    generate(data, ["contrast", "fog", "zoom_blur"], seed=0, force=False)
    assert (folder / "contrast.npy").stat().st_mtime_ns == made
    clean = data.read("test").x
    for name in ("contrast", "fog", "zoom_blur"):
        made_now = np.load(folder / f"{name}.npy")
        assert made_now.shape == (2500, 32, 32, 3)
        np.testing.assert_array_equal(made_now[1000:1100], corrupt(name, 0, 3, range(100), clean[:100]))


def test_a_set_has_one_seed(tmp_path):
    data, folder = arrays(tmp_path), tmp_path / "pets-c-regenerated"
    generate(data, ["fog", "contrast"], seed=0, force=False)
    before = content(folder)
    message = r"was made otherwise \(seed was 0, is 1\): go on as before, or make all of it again with force=true$"
    with pytest.raises(InputError, match=message):
        generate(data, ["fog"], seed=1, force=False)
    assert content(folder) == before
    generate(data, ["fog"], seed=1, force=True)
    assert set(content(folder)) == {"regenerated.json", "labels.npy", "fog.npy"}
    assert content(folder)["fog.npy"] != before["fog.npy"]
    generate(data, ["fog"], seed=0, force=True)
    assert content(folder)["fog.npy"] == before["fog.npy"]


@pytest.mark.parametrize("change", [{"seed": 1}, {"y": Y[[1, 0, 2, 3, 4]]}])
def test_a_set_is_of_the_test_images_that_there_are(tmp_path, change):
    generate(arrays(tmp_path), ["contrast"], seed=0, force=False)
    with pytest.raises(InputError, match=r"was made otherwise \(test_images_crc32 was \d+, is \d+\)"):
        generate(arrays(tmp_path, **change), ["fog"], seed=0, force=False)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    data, folder = arrays(tmp_path), tmp_path / "pets-c-regenerated"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds something else than a regenerated set: move it elsewhere$"):
        generate(data, ["fog"], seed=0, force=True)
    assert content(folder) == {"thesis.txt": b"mine"}


def test_what_cannot_be_corrupted(tmp_path):
    with pytest.raises(InputError, match=r"32 pixels a side or more, not 40 x 31: prepare pets with a larger"):
        generate(arrays(tmp_path, (40, 31)), ["fog"], seed=0, force=False)
    with pytest.raises(InputError, match=r"for red, green and blue; pets has 1 channels"):
        generate(arrays(tmp_path, channels=1), ["fog"], seed=0, force=False)
    with pytest.raises(InputError, match=r"unknown corruption 'frog'; did you mean 'fog'\?"):
        generate(arrays(tmp_path), ["frog"], seed=0, force=False)
    with pytest.raises(InputError, match=r"seed must be a whole number, at least 0, not -1"):
        generate(arrays(tmp_path), ["fog"], seed=-1, force=False)
    assert not (tmp_path / "pets-c-regenerated").exists()


def test_a_file_that_cannot_be_written(tmp_path):
    data, folder = arrays(tmp_path), tmp_path / "pets-c-regenerated"
    generate(data, ["contrast"], seed=0, force=False)
    (folder / "fog.npy.unfinished").mkdir()
    with pytest.raises(RunError, match=rf"^{folder}/fog\.npy cannot be written \(.*\): let it"):
        generate(data, ["contrast", "fog"], seed=0, force=False)
    assert (folder / "contrast.npy").is_file()
