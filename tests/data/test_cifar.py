"""CIFAR from archives in its authors' format."""

import hashlib
import io
import pickle
import tarfile

import numpy as np
import pytest
from pictures import crops
from torchvision.datasets import CIFAR10, CIFAR100

from puzzlemix.data.cifar import read_cifar
from puzzlemix.runtime.errors import InputError

CLASSES = {"cifar10": CIFAR10, "cifar100": CIFAR100}
TRAIN_FILES = {"cifar10": [f"data_batch_{i}" for i in range(1, 6)], "cifar100": ["train"]}
LABELS = {"cifar10": "labels", "cifar100": "fine_labels"}
NAMES = {"cifar10": "label_names", "cifar100": "fine_label_names"}


def entry(name, images, labels):
    """A file of the archive: each image is its red, its green and its blue pixels."""
    return {"data": images.transpose(0, 3, 1, 2).reshape(len(images), -1), LABELS[name]: labels.tolist()}


@pytest.fixture(params=["cifar10", "cifar100"])
def published(request, tmp_path, monkeypatch):
    """An archive of few images in place of the published one, whose checksums torchvision expects, and its content."""
    name, source = request.param, CLASSES[request.param]
    x, y = crops(30, (32, 32)), np.random.default_rng(0).permutation(30) % 10
    classes = [f"thing {i}" for i in range(10)]
    parts = np.split(np.arange(20), len(TRAIN_FILES[name]))
    files = {file: entry(name, x[part], y[part]) for file, part in zip(TRAIN_FILES[name], parts, strict=True)}
    files[source.test_list[0][0]] = entry(name, x[20:], y[20:])
    files[source.meta["filename"]] = {NAMES[name]: classes}
    packed = {file: pickle.dumps(content) for file, content in files.items()}

    archive = tmp_path / source.filename
    with tarfile.open(archive, "w:gz") as tar:
        for file, content in packed.items():
            member = tarfile.TarInfo(f"{source.base_folder}/{file}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    md5 = {file: hashlib.md5(content).hexdigest() for file, content in packed.items()}
    monkeypatch.setattr(source, "train_list", [[file, md5[file]] for file in TRAIN_FILES[name]])
    monkeypatch.setattr(source, "test_list", [[file, md5[file]] for file, _ in source.test_list])
    monkeypatch.setattr(source, "meta", {**source.meta, "md5": md5[source.meta["filename"]]})
    monkeypatch.setattr(source, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(source, "url", f"file://{tmp_path}/no_network")
    return name, archive, (x, y, classes)


@pytest.mark.parametrize("download", [True, False])
def test_the_archive_comes_out_as_arrays(published, download):
    name, archive, (x, y, classes) = published
    train, test = read_cifar(name, archive.parent, download)
    for split, part in ((train, slice(0, 20)), (test, slice(20, 30))):
        np.testing.assert_array_equal(split.x, x[part])
        np.testing.assert_array_equal(split.y, y[part])
        assert split.x.dtype == np.uint8
        assert split.y.dtype == np.int64
        assert split.classes.tolist() == classes


def test_what_is_unpacked_needs_no_archive(published):
    name, archive, (x, *_) = published
    read_cifar(name, archive.parent, download=False)
    archive.unlink()
    train, _ = read_cifar(name, archive.parent, download=True)
    np.testing.assert_array_equal(train.x, x[:20])


@pytest.mark.parametrize("download", [True, False])
@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(p.read_bytes()[:-100])])
def test_without_archive_or_network_it_says_what_to_put_where(published, download, damage):
    name, archive, _ = published
    damage(archive)
    before = archive.read_bytes() if archive.exists() else None
    with pytest.raises(InputError, match=rf"put {archive.name} from www\.cs\.toronto\.edu.* into {archive.parent}$"):
        read_cifar(name, archive.parent, download)
    assert (archive.read_bytes() if archive.exists() else None) == before
