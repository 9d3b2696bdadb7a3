"""Datasets in memory: read, checked, divided, shared among processes."""

import numpy as np
import pytest
import torch
from batches import CPU, evaluated_batches, joined, ranks
from pictures import crops

from puzzlemix.data import arrays
from puzzlemix.data.arrays import ArrayData, Arrays, write_arrays
from puzzlemix.runtime.errors import InputError, RunError
from puzzlemix.runtime.seeding import numpy_stream, torch_seed

CLASSES = np.array(["ant", "bee", "cat"])
PREPARE = r"run `python scripts/prepare_data\.py dataset=things`"


def split(per_class, size=(12, 16), seed=0):
    """`per_class` images of each of three classes, in no order."""
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(3), per_class))
    return Arrays(crops(len(y), size, seed), y, CLASSES)


TRAIN, TEST = split(7, seed=0), split(4, seed=1)


def dataset(root, train=TRAIN, test=TEST, **options):
    """The dataset, written but not loaded."""
    for name, content in (("train", train), ("test", test)):
        write_arrays(root / "things" / f"{name}.npz", content)
    options = {"num_classes": 3, "image_size": [12, 16], "mean": [0.5] * 3, "std": [0.2] * 3} | options
    return ArrayData(name="things", root=str(root), **options)


def loaded(root, **options):
    data = dataset(root, **options)
    data.load(CPU)
    return data


def pixels(x):
    """(N, H, W, C) uint8 as a network sees it."""
    return torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255


def as_set(images):
    return {image.numpy().tobytes() for image in images}


def test_images_to_evaluate_on_are_as_they_were_written(tmp_path):
    data = loaded(tmp_path)
    for batches, split in ((data.test_batches, TEST), (data.plain_train_batches, TRAIN)):
        for shards in ([range(5), range(5, 12)], [range(1, 12, 3), [4, 2]]):
            images, labels = joined(batches(shards))
            places = np.concatenate(shards)
            assert torch.equal(images, pixels(split.x[places]))
            assert labels.tolist() == split.y[places].tolist()


def test_an_epoch_without_augmentation_is_every_image_once(tmp_path):
    data = loaded(tmp_path)
    batches = list(data.train_batches(4, drop_last=False, seed=0, epoch=0))
    assert len(batches) == data.steps(4, drop_last=False) == 5  # the sixth has one image, which has no partner
    assert len(list(data.train_batches(4, True, 0, 0))) == data.steps(4, drop_last=True) == 5
    images, labels = joined(data.train_batches(7, False, 0, 0))
    assert as_set(images) == as_set(pixels(TRAIN.x))
    label_of = {image.numpy().tobytes(): label for image, label in zip(pixels(TRAIN.x), TRAIN.y, strict=True)}
    assert labels.tolist() == [label_of[image.numpy().tobytes()] for image in images]
    assert data.classes == ["ant", "bee", "cat"]


def test_any_number_of_processes_see_the_same_images_of_a_step(tmp_path, monkeypatch):
    """21 images in batches of 12: 9 are left, and two processes share 8 of them."""
    data = loaded(tmp_path, crop_padding=2, flip=True)
    alone = list(data.train_batches(12, False, 3, 4))
    assert [len(labels) for _, labels in alone] == [12, 9]
    for world in (1, 2, 3):
        for rank in ranks(monkeypatch, world):
            for own, whole in zip(data.train_batches(12, False, 3, 4), alone, strict=True):
                places = [i for i in range(len(whole[1]) // world * world) if i % world == rank]
                for part, all_of_it in zip(own, whole, strict=True):
                    assert torch.equal(part, torch.stack([all_of_it[i] for i in places]))


def test_a_step_is_augmented_image_by_image_as_its_seed_says(tmp_path):
    data = loaded(tmp_path, crop_padding=2, flip=True)
    for step, (images, labels) in enumerate(data.train_batches(12, False, 3, 4)):
        order = numpy_stream("order", 3, 4).permutation(21)[12 * step : 12 * step + 12]
        draws = torch.Generator().manual_seed(torch_seed("augmentation", 3, 4, step, 0))
        top, left, mirrored = (torch.randint(end, (12,), generator=draws) for end in (5, 5, 2))  # of 9 images too
        assert labels.tolist() == TRAIN.y[order].tolist()
        for place, index in enumerate(order):
            padded = np.pad(TRAIN.x[index], ((2, 2), (2, 2), (0, 0)))
            wanted = padded[top[place] : top[place] + 12, left[place] : left[place] + 16]
            wanted = wanted[:, ::-1].copy() if mirrored[place] else wanted
            assert torch.equal(images[place], pixels(wanted[None])[0])


def test_the_last_of_each_class_are_held_out_for_validation(tmp_path):
    assert loaded(tmp_path).evaluated_on == "test"
    data = loaded(tmp_path, validation_per_class=2)
    assert data.evaluated_on == "validation"
    images, labels = joined(evaluated_batches(data, 100))
    held = sorted(i for label in range(3) for i in np.flatnonzero(TRAIN.y == label)[-2:])
    assert torch.equal(images, pixels(TRAIN.x[held]))
    assert labels.tolist() == TRAIN.y[held].tolist()
    trained_on, _ = joined(data.train_batches(15, False, 0, 0))
    assert as_set(trained_on) | as_set(images) == as_set(pixels(TRAIN.x))
    assert not as_set(trained_on) & as_set(images)
    for held_out, span in (
        (7, "lie between 1 and 6"),
        (-1, "be a whole number, at least 0"),
        ("a", "be a whole number"),
    ):
        with pytest.raises(InputError, match=f"validation_per_class must {span}.*, not {held_out}"):
            loaded(tmp_path, validation_per_class=held_out)


def test_a_view_is_for_large_images(tmp_path):
    data = loaded(tmp_path)
    with pytest.raises(InputError, match=r"things has images of one size: a recipe with phases .* needs ImageNet"):
        data.check_view(crop_pixels=8)


BAD = {
    r"labels from 0 to 2, but num_classes=2 allows 0 to 1: set dataset\.num_classes, or delete": {"num_classes": 2},
    r"train: 1 of 4 classes have no image \(the first: \[3\]\)": {"num_classes": 4},
    r"train: labels from -1 to 2": {"train": TRAIN._replace(y=np.where(TRAIN.y == 0, -1, TRAIN.y))},
    r"test: 2 of 3 classes have no image .*the folders are probably not the classes": {
        "test": TEST._replace(y=np.zeros_like(TEST.y))  # Tiny-ImageNet's validation images, read as one folder
    },
    r"train and test do not name the same 3 classes in the same order: delete": {
        "test": TEST._replace(classes=CLASSES[::-1])
    },
    r"train and test do not name the same 3 classes": {
        "train": TRAIN._replace(classes=CLASSES[:2]),
        "test": TEST._replace(classes=CLASSES[:2]),
    },
    r"train: 21 images instead of 22": {"train_images": 22},
    r"test: 12 images instead of 11": {"test_images": 11},
    r"images are \(12, 16, 3\) \(H, W, C\), the config says \(16, 12, 3\): set dataset\.image_size": {
        "image_size": [16, 12]
    },
    r"the config says \(12, 16, 1\): set .*dataset\.mean and dataset\.std": {"mean": [0.5], "std": [0.2]},
    r"train: x float64.* are not uint8 images": {"train": TRAIN._replace(x=TRAIN.x / 255)},
    r"train: .*y int64\[20\] are not": {"train": TRAIN._replace(y=TRAIN.y[:-1])},
    r"test: x uint8\[0, 12, 16, 3\]": {"test": TEST._replace(x=TEST.x[:0], y=TEST.y[:0])},
}


@pytest.mark.parametrize("message", BAD)
def test_what_the_config_does_not_say_is_refused_with_a_remedy(tmp_path, message):
    data = dataset(tmp_path, **BAD[message])
    with pytest.raises(InputError, match=rf"things.*{message}") as refused:
        data.load(CPU)
    remedy = f"delete {tmp_path}/things and run `python scripts/prepare_data.py dataset=things`"
    assert remedy in str(refused.value) or "set dataset." in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("bytes_left", [0, 100, 5000])
def test_files_that_are_missing_or_damaged(tmp_path, bytes_left):
    data = dataset(tmp_path)
    path = tmp_path / "things" / "test.npz"
    path.write_bytes(path.read_bytes()[:bytes_left])
    with pytest.raises(InputError, match=rf"test\.npz is damaged \(.*\): delete it and {PREPARE}"):
        data.load(CPU)
    path.unlink()
    with pytest.raises(InputError, match=rf"test\.npz does not exist: {PREPARE}"):
        data.load(CPU)


def test_a_flipped_bit_is_noticed(tmp_path):
    data = dataset(tmp_path)
    path = tmp_path / "things" / "train.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"train\.npz is damaged \(Bad CRC-32"):
        data.load(CPU)


def test_a_file_of_something_else(tmp_path):
    data = dataset(tmp_path)
    np.savez(tmp_path / "things" / "train.npz", x=TRAIN.x)
    with pytest.raises(InputError, match=r"train\.npz is damaged \(.*y is not a file"):
        data.load(CPU)


def test_an_interrupted_write_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "things" / "train.npz"
    write_arrays(path, TRAIN)
    before = path.read_bytes()

    def disk_full(file, **content):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(arrays.np, "savez", disk_full)
    with pytest.raises(RunError, match=r"train\.npz cannot be written \(no space left\); the old file is unchanged"):
        write_arrays(path, TEST)
    assert path.read_bytes() == before
    monkeypatch.undo()
    write_arrays(path, TEST)
    assert [file.name for file in path.parent.iterdir()] == ["train.npz"]
    with np.load(path) as content:
        np.testing.assert_array_equal(content["x"], TEST.x)
