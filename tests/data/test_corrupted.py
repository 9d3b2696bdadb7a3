"""Sets of corrupted images in the formats of the releases: read whole or in part, and refused where they do not fit."""

import re

import numpy as np
import pytest
import torch
from batches import CPU, joined, ranks
from pictures import WNIDS, crops, pixels_of, write_class_folders, write_image
from PIL import Image

from puzzlemix.data.arrays import ArrayData, Arrays, write_arrays
from puzzlemix.data.corrupted import RELEASED, SEVERITIES, open_corrupted, released_folder
from puzzlemix.data.folders import ImageFolders
from puzzlemix.data.sharding import evaluation_shards
from puzzlemix.runtime.errors import InputError, RunError

Y = np.array([2, 0, 1, 1, 0, 2, 2])  # of the test images
FAMILIES = {"noise": ["gaussian_noise"], "weather": ["fog", "snow"]}
NAMES = ["gaussian_noise", "snow", "fog"]  # in the released order
STATISTICS = {"mean": [0.5] * 3, "std": [0.2] * 3}
AGAIN = "unpack the released set again"


def arrays(root, name="cifar10", size=(32, 32), classes=("a", "b", "c"), y=Y, **options):
    """A dataset in memory, loaded; its test images have the labels `y`."""
    for split in ("train", "test"):
        write_arrays(root / name / f"{split}.npz", Arrays(crops(len(y), size), y, np.array(classes)))
    of_set = {"name": name, "num_classes": len(classes), "image_size": list(size), "root": str(root)}
    data = ArrayData(**of_set, **STATISTICS, **options)
    data.load(CPU)
    data.workers = 0
    return data


def write_array_set(folder, names=NAMES):
    """Arrays as CIFAR-10-C's; gives them by name, with the labels."""
    folder.mkdir(parents=True)
    x = {name: crops(5 * len(Y), (32, 32), seed=i) for i, name in enumerate(names)}
    for name, array in x.items():
        np.save(folder / f"{name}.npy", array)
    np.save(folder / "labels.npy", np.tile(Y, 5).astype(np.uint8))
    return x


def write_folder_set(folder, classes, size, names=NAMES):
    """Folders as Tiny-ImageNet-C's, two images a class."""
    for i, name in enumerate(names):
        for severity in SEVERITIES:
            write_class_folders(folder / name / str(severity), classes, 2, size, seed=10 * i + severity)


def into_families(folder):
    """Sort what lies in a folder into folders for families."""
    for family, names in FAMILIES.items():
        (folder / family).mkdir()
        for path in [path for path in folder.iterdir() if path.stem in names]:
            path.rename(folder / family / path.name)


def all_of(images, name, severity, count, batch_size=4):
    """Every image, (N, C, H, W), and label."""
    batches = list(images.corruptions[name](severity, evaluation_shards(range(count), batch_size)))
    assert all(len(labels) <= batch_size for _, labels in batches)
    return joined(batches)


@pytest.fixture
def tiny(tmp_path):
    """Tiny-ImageNet with its classes in the order of `wnids.txt`, and a set of its corrupted images."""
    write_folder_set(tmp_path / "Tiny-ImageNet-C", sorted(WNIDS), (64, 64))
    return arrays(tmp_path, "tiny_imagenet", (64, 64), WNIDS, Y[:6])


@pytest.mark.parametrize("by_family", [False, True])
def test_arrays_are_read_as_they_lie_there(tmp_path, by_family):
    x = write_array_set(tmp_path / "CIFAR-10-C")
    if by_family:
        into_families(tmp_path / "CIFAR-10-C")
    data = arrays(tmp_path)
    images = open_corrupted(released_folder(data), data)
    assert list(images.corruptions) == NAMES
    assert images.missing == [name for name in RELEASED if name not in NAMES]
    for name in NAMES:
        for severity in SEVERITIES:
            pixels, labels = all_of(images, name, severity, len(Y))
            assert (pixels.dtype, labels.dtype) == (torch.float32, torch.int64)
            wanted = x[name][(severity - 1) * len(Y) : severity * len(Y)]
            np.testing.assert_array_equal((pixels * 255).round().byte().permute(0, 2, 3, 1), wanted)
            np.testing.assert_array_equal(labels, Y)
            assert 0 <= pixels.min() < pixels.max() <= 1


@pytest.mark.parametrize("by_family", [False, True])
def test_folders_are_read_with_classes_by_name(tmp_path, tiny, by_family):
    folder = released_folder(tiny)
    grey = folder / "fog" / "2" / "n01" / "0.JPEG"
    Image.fromarray(pixels_of(grey)).convert("L").save(grey)
    (folder / "snow" / "1" / "n02" / "0.JPEG").unlink()
    write_image(folder / "snow" / "1" / "n02" / "0.png", crops(1, (64, 64))[0])
    if by_family:
        into_families(folder)
    images = open_corrupted(folder, tiny)
    assert list(images.corruptions) == NAMES
    assert images.missing == [name for name in RELEASED if name not in NAMES]
    for name in NAMES:
        for severity in SEVERITIES:
            files = sorted(folder.glob(f"{'*/' * by_family}{name}/{severity}/*/*.*"))
            pixels, labels = all_of(images, name, severity, 6)
            np.testing.assert_array_equal(
                (pixels * 255).round().byte().permute(0, 2, 3, 1), [pixels_of(file) for file in files]
            )
            assert [WNIDS[label] for label in labels] == [file.parent.name for file in files]


def test_hidden_files_are_not_corrupted_images(tiny):
    folder = released_folder(tiny)
    (folder / "fog" / "2" / ".git").mkdir()
    (folder / "fog" / "2" / "n01" / "._0.JPEG").write_bytes(b"\0")
    images = open_corrupted(folder, tiny)
    assert list(images.corruptions) == NAMES
    assert len(all_of(images, "fog", 2, 6)[1]) == 6


def test_imagenets_centres_are_read_as_they_are_by_worker_processes(tmp_path):
    for split in ("train", "val"):
        write_class_folders(tmp_path / "imagenet" / split, WNIDS, 2, (240, 260))
    write_folder_set(tmp_path / "ImageNet-C" / "weather", WNIDS, (224, 224), ["fog"])
    of_set = {"name": "imagenet", "num_classes": 3, "image_size": [224, 224], "root": str(tmp_path)}
    data = ImageFolders(workers=2, test_images=6, **of_set, **STATISTICS)
    data.load(CPU)
    images = open_corrupted(released_folder(data), data)
    assert list(images.corruptions) == ["fog"]
    pixels, labels = all_of(images, "fog", 3, 6)
    files = sorted((tmp_path / "ImageNet-C" / "weather" / "fog" / "3").rglob("*.JPEG"))
    np.testing.assert_array_equal(
        (pixels * 255).round().byte().permute(0, 2, 3, 1), [pixels_of(file) for file in files]
    )
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("kind", ["arrays", "folders"])
def test_every_image_is_in_one_processs_share(tmp_path, monkeypatch, tiny, kind, world):
    if kind == "arrays":
        write_array_set(tmp_path / "CIFAR-10-C")
        data = arrays(tmp_path)
    else:
        data = tiny
    images = open_corrupted(released_folder(data), data)
    wanted, labels = all_of(images, "snow", 4, data.test_count)
    for rank in ranks(monkeypatch, world):
        share, of_share = all_of(images, "snow", 4, data.test_count, batch_size=2)
        torch.testing.assert_close(share, wanted[rank::world], rtol=0, atol=0)
        assert of_share.tolist() == labels[rank::world].tolist()


def test_a_corruption_is_whole_or_missing(tmp_path, tiny):
    folder = released_folder(tiny)
    (folder / "snow" / "3" / "n02" / "1.JPEG").unlink()
    (folder / "fog" / "5").rename(tmp_path / "elsewhere")
    images = open_corrupted(folder, tiny)
    assert list(images.corruptions) == ["gaussian_noise"]
    of_snow = f"{folder}/snow/3 has 5 of 6 images: {AGAIN}"
    of_fog = f"{folder}/fog/5 does not exist: {AGAIN}"
    assert images.missing == [*(name for name in RELEASED if name not in NAMES), f"snow ({of_snow})", f"fog ({of_fog})"]
    assert len(all_of(images, "gaussian_noise", 4, 6)[1]) == 6


def test_no_corruption_is_whole(tiny):
    """Also where all of them lack the same images: the dataset has the number."""
    folder = released_folder(tiny)
    for path in folder.rglob("n01/0.JPEG"):
        path.unlink()
    message = rf"^{folder} holds no complete corruption: {folder}/gaussian_noise/1 has 5 of 6 images: {AGAIN}$"
    with pytest.raises(InputError, match=message):
        open_corrupted(folder, tiny)


def test_images_held_out_of_the_training_set_have_no_corrupted_ones(tmp_path):
    write_array_set(tmp_path / "CIFAR-10-C")
    data = arrays(tmp_path, validation_per_class=1)
    with pytest.raises(InputError, match="made of test images, but this run is evaluated on validation images"):
        open_corrupted(tmp_path / "CIFAR-10-C", data)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-1000])


def replace_labels(folder, labels):
    np.save(folder / "labels.npy", labels)


BAD_ARRAYS = {
    "no labels": (lambda f: (f / "labels.npy").unlink(), r"has no labels\.npy, the classes"),
    "strangers": (
        lambda f: replace_labels(f, np.tile(Y, 5) + 1),
        r"labels from 1 to 3, but num_classes=3 allows 0 to 2",
    ),
    "of fewer": (lambda f: replace_labels(f, np.tile(Y % 2, 5)), r"1 of 3 classes have no image"),
    "not by five": (
        lambda f: replace_labels(f, np.tile(Y, 5)[1:]),
        r"labels\.npy: int64\[34\] instead of 35 whole numbers, the classes of the 7 test images of cifar10",
    ),
    "no numbers": (
        lambda f: replace_labels(f, np.tile(Y, 5) / 2),
        r"labels\.npy: float64\[35\] instead of 35 whole numbers",
    ),
    "no labels in it": (
        lambda f: replace_labels(f, np.zeros(0, int)),
        r"labels\.npy: int64\[0\] instead of 35 whole numbers",
    ),
    "labels cut off": (lambda f: (f / "labels.npy").write_bytes(b"\x93NUMPY"), r"labels\.npy is damaged"),
}


BAD_ARRAY = {
    "more images": (
        lambda f: np.save(f / "fog.npy", crops(40, (32, 32))),
        r"fog\.npy: uint8\[40, 32, 32, 3\] instead of uint8\[35, 32, 32, 3\]",
    ),
    "large": (lambda f: np.save(f / "fog.npy", crops(35, (36, 32))), r"fog\.npy: uint8\[35, 36, 32, 3\] instead"),
    "floats": (
        lambda f: np.save(f / "fog.npy", crops(35, (32, 32)) / 255),
        r"fog\.npy: float64\[35, 32, 32, 3\] instead",
    ),
    "cut off": (lambda f: cut_off(f / "fog.npy"), r"fog\.npy is damaged"),
    "empty": (lambda f: (f / "fog.npy").write_bytes(b""), r"fog\.npy is damaged"),
    "pickled": (lambda f: np.save(f / "fog.npy", np.array([{}])), r"fog\.npy is damaged"),
}


@pytest.mark.parametrize("case", BAD_ARRAY)
def test_one_array_that_does_not_fit_leaves_the_others(tmp_path, case):
    spoil, message = BAD_ARRAY[case]
    write_array_set(tmp_path / "CIFAR-10-C")
    data = arrays(tmp_path)
    spoil(tmp_path / "CIFAR-10-C")
    images = open_corrupted(tmp_path / "CIFAR-10-C", data)
    assert list(images.corruptions) == ["gaussian_noise", "snow"]
    (lacking,) = (text for text in images.missing if text.startswith("fog ("))
    assert re.search(rf"{message}[^\n]*{AGAIN}", lacking)
    for name in ("gaussian_noise", "snow"):
        (tmp_path / "CIFAR-10-C" / f"{name}.npy").unlink()
    with pytest.raises(InputError, match=rf"{message}[^\n]*{AGAIN}$"):
        open_corrupted(tmp_path / "CIFAR-10-C", data)


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_arrays_that_do_not_fit(tmp_path, case):
    spoil, message = BAD_ARRAYS[case]
    write_array_set(tmp_path / "CIFAR-10-C")
    data = arrays(tmp_path)
    spoil(tmp_path / "CIFAR-10-C")
    with pytest.raises(InputError, match=rf"^{tmp_path}/CIFAR-10-C.*{message}[^\n]*{AGAIN}$"):
        open_corrupted(tmp_path / "CIFAR-10-C", data)


def test_another_number_of_test_images(tmp_path):
    write_array_set(tmp_path / "CIFAR-10-C")
    data = arrays(tmp_path, y=Y[1:])
    with pytest.raises(
        InputError,
        match=rf"uint8\[35\] instead of 30 whole numbers, the classes of the 6 test images of cifar10 .*: {AGAIN}$",
    ):
        open_corrupted(tmp_path / "CIFAR-10-C", data)


def test_folders_of_other_classes_or_sizes(tiny):
    folder = released_folder(tiny)
    (folder / "fog" / "2" / "n01").rename(folder / "fog" / "2" / "cat")
    for path in (folder / "snow" / "4").rglob("*.JPEG"):
        write_image(path, crops(1, (60, 64))[0])
    images = open_corrupted(folder, tiny)
    assert list(images.corruptions) == ["gaussian_noise"]
    of_snow, of_fog = images.missing[-2:]
    size = r"has 60 x 64 pixels, the dataset's images 64 x 64: set dataset\.image_size to fit, or"
    assert re.fullmatch(rf"snow \({folder}/snow/4/n01/0\.JPEG {size} {AGAIN}\)", of_snow)
    assert of_fog == f"fog ({folder}/fog/2 and tiny_imagenet differ in classes, such as cat: {AGAIN})"


def test_no_set_at_all(tmp_path):
    data, own = arrays(tmp_path), arrays(tmp_path, "flowers")
    assert released_folder(data) is released_folder(own) is None
    with pytest.raises(InputError, match=r"CIFAR-10-C does not exist: put CIFAR-10-C there$"):
        open_corrupted(tmp_path / "CIFAR-10-C", data)
    with pytest.raises(InputError, match=r"flowers-c does not exist: put such a set there$"):
        open_corrupted(tmp_path / "flowers-c", own)
    (tmp_path / "CIFAR-10-C" / "fogs").mkdir(parents=True)
    with pytest.raises(InputError, match=rf"CIFAR-10-C holds no corruption, neither gaussian_noise\.npy .*: {AGAIN}$"):
        open_corrupted(tmp_path / "CIFAR-10-C", data)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_named(tiny, workers):
    folder = released_folder(tiny)
    last = folder / "fog" / "3" / "n03" / "1.JPEG"
    last.write_bytes(last.read_bytes()[:300])
    tiny.workers = workers
    images = open_corrupted(folder, tiny)
    with pytest.raises(RunError, match=rf"^{last} cannot be read as an image \(\w+\): replace it, or delete it$"):
        all_of(images, "fog", 3, 6)
    write_image(last, crops(1, (32, 64))[0])
    with pytest.raises(RunError, match=rf"^{last} has 32 x 64 pixels, the dataset's images 64 x 64: set"):
        all_of(images, "fog", 3, 6)
