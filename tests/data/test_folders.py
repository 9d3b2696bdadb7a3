"""Class folders of large images: read, augmented, shared among processes, resized beforehand."""

import io
import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from batches import CPU, evaluated_batches, joined, ranks
from pictures import crops, pixels_of, write_class_folders, write_image
from PIL import Image

from puzzlemix.data.folders import ImageFolders, resized_folder, write_resized_copies
from puzzlemix.data.sharding import evaluation_shards
from puzzlemix.reporting.pictures import batch_of
from puzzlemix.runtime.errors import InputError, RunError

CLASSES = ["n01", "n02", "n03"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three classes of five training and three test images, upright and wide."""
    root = tmp_path_factory.mktemp("data")
    write_class_folders(root / "small" / "train", CLASSES, 5, (60, 80))
    write_class_folders(root / "small" / "val", CLASSES, 3, (90, 70), seed=1)
    return root


def images_of(root, workers=0, image_size=(32, 32), **options):
    """The dataset, loaded."""
    options = {"num_classes": 3, "mean": [0.5] * 3, "std": [0.2] * 3, "test_resize": 40} | options
    data = ImageFolders(name="small", image_size=image_size, workers=workers, root=str(root), **options)
    data.load(CPU)
    return data


def test_batches_are_pixels_on_the_device_with_labels(root):
    data = images_of(root)
    assert data.classes == CLASSES
    assert data.evaluated_on == "test"
    assert (data.steps(4, drop_last=False), data.steps(4, drop_last=True)) == (4, 3)
    batches = list(data.train_batches(4, drop_last=False, seed=0, epoch=0))
    assert [len(labels) for _, labels in batches] == [4, 4, 4, 3]
    images, labels = joined(batches)
    assert images.shape == (15, 3, 32, 32)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < 0.1 < 0.9 < images.max() <= 1
    assert torch.bincount(labels).tolist() == [5, 5, 5]
    assert len(list(data.train_batches(4, drop_last=True, seed=0, epoch=0))) == 3


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("image_size", [(32, 32), (24, 36)])
def test_evaluated_images_are_their_resized_centres(root, image_size, split):
    """Against PIL alone: the short side to 40 pixels, then the middle."""
    data = images_of(root, image_size=image_size)
    ways = {"train": (data.train_count, data.plain_train_batches), "val": (data.test_count, data.test_batches)}
    count, batches = ways[split]
    images, labels = joined(batches(evaluation_shards(range(count), 4)))
    files = sorted((root / "small" / split).rglob("*.JPEG"))
    assert len(labels) == len(files)
    assert labels.tolist() == [CLASSES.index(file.parent.name) for file in files]
    for image, file in zip(images, files, strict=True):
        whole = Image.fromarray(pixels_of(file))
        sides = [int(40 * side / min(whole.size)) for side in whole.size]
        resized = whole.resize(sides, Image.Resampling.BILINEAR)
        left, top = ((of - side) / 2 for of, side in zip(resized.size, image_size[::-1], strict=True))
        centre = resized.crop((round(left), round(top), round(left) + image_size[1], round(top) + image_size[0]))
        np.testing.assert_array_equal((image * 255).round().byte().permute(1, 2, 0), np.asarray(centre))


def test_every_training_image_comes_once_an_epoch_from_its_own_file(root):
    """With crops of the whole image, a mirrored or plain copy of a file comes out."""
    data = images_of(root, image_size=(60, 80), test_resize=80)
    images, labels = joined(data.train_batches(4, False, seed=0, epoch=0, min_scale=1.0))
    files = sorted((root / "small" / "train").rglob("*.JPEG"))
    originals = torch.stack([torch.from_numpy(pixels_of(file).copy()).permute(2, 0, 1) for file in files]).float() / 255
    difference = torch.minimum(
        (images[:, None] - originals).abs().mean((2, 3, 4)),
        (images[:, None] - originals.flip(-1)).abs().mean((2, 3, 4)),
    )  # (15, 15)
    nearest = difference.argmin(1)
    assert sorted(nearest.tolist()) == list(range(15))
    assert labels.tolist() == [CLASSES.index(files[i].parent.name) for i in nearest]


def test_an_epoch_depends_on_seed_and_epoch_alone(root):
    data, parallel = (images_of(root, workers=workers, color_jitter=0.4, lighting=0.1) for workers in (0, 2))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    images, labels = joined(data.train_batches(4, False, seed=0, epoch=3))
    assert torch.equal(torch.get_rng_state(), before)  # the training loop's draws are its own
    torch.manual_seed(1)
    for again, same in (joined(other.train_batches(4, False, seed=0, epoch=3)) for other in (data, parallel)):
        assert torch.equal(again, images)
        assert torch.equal(same, labels)
    resumed, same = joined(data.train_batches(4, False, seed=0, epoch=3, first_step=2))
    assert torch.equal(resumed, images[8:])
    assert torch.equal(same, labels[8:])
    for seed, epoch in ((0, 4), (1, 3)):
        other, order = joined(data.train_batches(4, False, seed, epoch))
        assert not torch.equal(order, labels)
        assert not torch.isin(other.flatten(1).sum(1), images.flatten(1).sum(1)).any()


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_images(root, monkeypatch, world):
    data = images_of(root, color_jitter=0.4, lighting=0.1)
    alone = {"train": joined(data.train_batches(6, True, 0, 0)), "test": joined(evaluated_batches(data, 2))}
    shares = {"train": [], "test": []}
    for _ in ranks(monkeypatch, world):
        train = list(data.train_batches(6, True, 0, 0))
        assert [len(labels) for _, labels in train] == [6 // world] * 2
        shares["train"] += train
        shares["test"] += evaluated_batches(data, 2)
    for split, batches in shares.items():
        for ours, all_of_them in zip(joined(batches), alone[split], strict=True):
            sums = (values.view(len(values), -1).sum(1).sort().values for values in (ours, all_of_them))
            assert torch.equal(*sums)


def test_colours_change_as_the_options_say(root):
    plain, *others = (
        joined(images_of(root, **options).train_batches(15, False, 0, 0))[0]
        for options in ({}, {"color_jitter": 0.4}, {"lighting": 0.5}, {"color_jitter": 0.4, "lighting": 0.5})
    )
    for changed in others:
        assert (plain - changed).abs().mean() > 0.01
        correlation = torch.corrcoef(torch.stack([plain.flatten(), changed.flatten()]))[0, 1]
        assert correlation > 0.5  # the same crops
        assert changed.min() < -0.01  # nothing is clipped
        assert changed.max() > 1.01
    _, jittered, _, both = (drawn.flatten(2) for drawn in (plain, *others))
    lit = both - jittered  # (15, 3, H W), lighting comes last: one colour for all pixels of an image
    torch.testing.assert_close(lit, lit[..., :1].expand_as(lit))


def test_images_that_are_drawn_are_clipped(root):
    shown = batch_of(images_of(root, color_jitter=0.4), images=8, seed=0).images
    assert 0 <= shown.min() < 0.1 < 0.9 < shown.max() <= 1


def test_a_view_cuts_other_sizes_from_resized_copies(root, tmp_path):
    (tmp_path / "small").mkdir()
    for split in ("train", "val"):
        (tmp_path / "small" / split).symlink_to(root / "small" / split)
    data = images_of(tmp_path)
    view = {"crop_pixels": 24, "min_scale": 1.0, "resized_to": 30}
    remedy = r"`python scripts/prepare_data\.py dataset=small` makes copies of \[352, 160\] pixels$"
    with pytest.raises(InputError, match=rf"train_30 does not exist: {remedy}"):
        next(data.train_batches(4, False, 0, 0, **view))
    write_resized_copies(tmp_path / "small" / "train", resized_folder(tmp_path / "small", "train", 30), 30)
    images, labels = joined(data.train_batches(4, False, 0, 0, **view))
    assert images.shape == (15, 3, 24, 24)
    whole, same = joined(data.train_batches(4, False, 0, 0, crop_pixels=24, min_scale=1.0))
    assert torch.equal(labels, same)
    assert 0 < (images - whole).abs().mean() < 0.05


def test_evaluation_reads_resized_copies_where_asked(root, tmp_path):
    (tmp_path / "small").mkdir()
    for split in ("train", "val"):
        (tmp_path / "small" / split).symlink_to(root / "small" / split)
    remedy = r"`python scripts/prepare_data\.py dataset=small` makes copies of \[352\] pixels$"
    with pytest.raises(InputError, match=rf"val_50 does not exist: {remedy}"):
        images_of(tmp_path, test_resized_to=50)
    write_resized_copies(tmp_path / "small" / "val", resized_folder(tmp_path / "small", "val", 50), 50)
    images, labels = joined(evaluated_batches(images_of(tmp_path, test_resized_to=50), 4))
    (tmp_path / "small" / "val").unlink()
    (tmp_path / "small" / "val_50").rename(tmp_path / "small" / "val")
    wanted, same = joined(evaluated_batches(images_of(tmp_path), 4))
    assert torch.equal(images, wanted)
    assert torch.equal(labels, same)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ({"crop_size": 24}, r"unknown key of a view in a recipe 'crop_size'; did you mean 'crop_pixels'\?"),
        ({"crop_pixels": 0}, r"crop_pixels of a view in a recipe must be a whole number, at least 1, not 0"),
        ({"min_scale": 2}, r"min_scale of a view in a recipe must be a number, in \[0, 1\], not 2"),
        ({"resized_to": "small"}, r"train_small does not exist: .* makes copies of \[352, 160\] pixels"),
        ({"resized_to": 31}, r"train_31 does not exist: .* makes copies of \[352, 160\] pixels"),
    ],
)
def test_a_view_that_cannot_be_cut_is_refused_before_training(root, view, message):
    with pytest.raises(InputError, match=message):
        images_of(root).check_view(**view)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_in_one_line(root, tmp_path, workers):
    write_class_folders(tmp_path / "small" / "train", CLASSES, 2, (40, 40))
    write_class_folders(tmp_path / "small" / "val", CLASSES, 2, (40, 40))
    data = images_of(tmp_path, workers=workers)
    damaged = tmp_path / "small" / "train" / "n02" / "1.JPEG"
    damaged.write_bytes(damaged.read_bytes()[:400])
    with pytest.raises(RunError) as refused:
        list(data.train_batches(2, False, 0, 0))
    assert str(refused.value) == f"{damaged} cannot be read as an image (OSError): replace it, or delete it"
    assert multiprocessing.active_children() == []


def test_a_reader_that_has_hardly_begun_outlasts_a_sigterm(root, monkeypatch):
    """`scancel` sends one to all processes of a job, also between a reader's start and its first look at this code."""
    set_num_threads = torch.set_num_threads

    def interrupted(count):  # torch calls this in each reader, after it has set its own handler
        os.kill(os.getpid(), signal.SIGTERM)
        set_num_threads(count)

    monkeypatch.setattr(torch, "set_num_threads", interrupted)
    wanted, _ = joined(evaluated_batches(images_of(root), 4))
    read, _ = joined(evaluated_batches(images_of(root, workers=2), 4))
    assert torch.equal(read, wanted)
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_workers_end_with_an_epoch_that_is_left_early(root):
    batches = images_of(root, workers=2).train_batches(2, False, 0, 0)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    del batches
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_images": 16}, r"train: 15 images instead of 16: put or link the images of small into"),
        ({"test_images": 8}, r"val: 9 images instead of 8"),
        ({"num_classes": 2}, r"labels from 0 to 2, but num_classes=2 allows 0 to 1: set dataset\.num_classes, or put"),
        ({"num_classes": 4}, r"1 of 4 classes have no image \(the first: \[3\]\)"),
        ({"workers": -1}, r"dataset\.workers must be a whole number, at least 0, at most 256, not -1"),
        ({"test_resize": 0}, r"dataset\.test_resize must be a whole number, at least 1, at most 4096, not 0"),
        ({"test_resize": 31}, r"dataset\.test_resize=31 is less than dataset\.image_size=\[32, 32\]: raise it"),
        ({"test_resized_to": 0}, r"val_0 does not exist: .* makes copies of \[352\] pixels"),
        ({"color_jitter": -1}, r"dataset\.color_jitter must be a number, finite, 0 or more, not -1"),
        ({"lighting": "a"}, r"dataset\.lighting must be a number, finite, 0 or more, not a"),
    ],
)
def test_a_dataset_that_is_not_the_configs(root, options, message):
    with pytest.raises(InputError, match=message):
        images_of(root, **options)


def test_folders_that_are_missing_or_differ(tmp_path):
    with pytest.raises(
        InputError, match=r"small/train does not exist: put or link .*ILSVRC 2012 archives of image-net\.org"
    ):
        images_of(tmp_path)
    write_class_folders(tmp_path / "small" / "train", CLASSES, 2, (20, 20))
    for i, pixels in enumerate(crops(3, (20, 20))):
        write_image(tmp_path / "small" / "val" / f"{i}.JPEG", pixels)  # as in the official archive, without classes
    with pytest.raises(InputError, match=r"small/val does not hold a folder of images for each class: put or link"):
        images_of(tmp_path)
    write_class_folders(tmp_path / "small" / "val", ["n01", "n02", "n04"], 2, (20, 20))
    with pytest.raises(
        InputError, match=r"train/ and val/ do not have the same class folders: sort the images of val/"
    ):
        images_of(tmp_path)


def copy_of(path, short_side):
    """A resized copy by PIL alone, as the release's resize.py makes it, as it comes back from its file."""
    image = Image.fromarray(pixels_of(path))
    width, height = image.size
    ratio = min(height / short_side, width / short_side)
    image = image.resize((int(width / ratio), int(height / ratio)), resample=Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG")
    return pixels_of(file)


@pytest.mark.parametrize(("short_side", "size"), [(31, (31, 41)), (70, (70, 93))])
def test_resized_copies(root, tmp_path, short_side, size):
    source, copies = root / "small" / "train", tmp_path / "copies"
    write_resized_copies(source, copies, short_side)
    assert [path.name for path in tmp_path.iterdir()] == ["copies"]
    files = sorted(path.relative_to(source) for path in source.rglob("*.*"))
    assert sorted(path.relative_to(copies) for path in copies.rglob("*.*")) == files
    for file in files:
        pixels = pixels_of(copies / file)
        assert pixels.shape == (*size, 3)
        np.testing.assert_array_equal(pixels, copy_of(source / file, short_side))


def test_copies_that_cannot_be_written(root, tmp_path):
    (tmp_path / "copies.unfinished").write_bytes(b"a file in the folder's place")
    with pytest.raises(RunError, match=r"copies\.unfinished/n01/\d\.JPEG cannot be written \(.*\): allow writing"):
        write_resized_copies(root / "small" / "train", tmp_path / "copies", 10)


def test_resized_copies_are_taken_up_where_they_stopped(tmp_path):
    source, copies = tmp_path / "train", tmp_path / "train_10"
    write_class_folders(source, CLASSES, 3, (20, 24))
    damaged = source / "n03" / "2.JPEG"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:400])
    with pytest.raises(InputError, match=r"n03/2\.JPEG cannot be read as an image"):
        write_resized_copies(source, copies, 10)
    assert not copies.exists()
    unfinished = tmp_path / "train_10.unfinished"
    written = {path.name: path.stat().st_mtime_ns for path in unfinished.glob("n01/*")}
    assert len(written) == 3
    (unfinished / "n02" / "0.JPEG").unlink()
    (unfinished / "n02" / "0.JPEG.unfinished").write_bytes(b"half")

    damaged.write_bytes(whole)
    write_resized_copies(source, copies, 10)
    assert not unfinished.exists()
    assert {path.name: path.stat().st_mtime_ns for path in copies.glob("n01/*")} == written
    assert len(list(copies.rglob("*.*"))) == 9
    assert pixels_of(copies / "n02" / "0.JPEG").shape == (10, 12, 3)
