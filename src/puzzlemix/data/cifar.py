"""CIFAR-10 and CIFAR-100 from their authors' archives, by torchvision, which checks their checksums."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from puzzlemix.data.npz import Arrays
from puzzlemix.runtime.errors import InputError


def read_cifar(name: str, raw: Path, download: bool) -> tuple[Arrays, Arrays]:
    """Training and test images, in the archive's order, with CIFAR-100's fine labels.

    Args:
        name: `cifar10` or `cifar100`.
        raw: the folder of the archive, which is unpacked there.
        download: fetch the archive where it is missing or damaged.

    Raises:
        InputError: the archive is neither there, whole, nor can it be downloaded.
    """
    from torchvision import datasets  # here, so that no other dataset needs it
    from torchvision.datasets.utils import check_integrity

    source = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    archive = raw / source.filename
    try:
        download = download or check_integrity(archive, source.tgz_md5)  # which only unpacks what is whole
        return tuple(_arrays(source(raw, train, download=download)) for train in (True, False))
    except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
        raise InputError(
            f"{archive} is missing or damaged, and no whole one could be had ({error}): put {source.filename} of "
            f"www.cs.toronto.edu/~kriz/cifar.html into {raw}"
        ) from error


def _arrays(split: Any) -> Arrays:
    return Arrays(np.ascontiguousarray(split.data), np.array(split.targets, np.int64), np.array(split.classes))
