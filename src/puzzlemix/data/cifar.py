"""CIFAR-10 and CIFAR-100 from their authors' archives, read by torchvision, which verifies the checksums."""

import tarfile
from pathlib import Path

import numpy as np

from puzzlemix.data.arrays import Arrays
from puzzlemix.runtime.errors import InputError


def read_cifar(name: str, raw: Path, download: bool) -> tuple[Arrays, Arrays]:
    """Read training and test images in the archive's order, with CIFAR-100's fine labels.

    Args:
        name: `cifar10` or `cifar100`.
        raw: the folder that holds the archive, which is unpacked there.
        download: download the archive if it is missing or damaged.

    Raises:
        InputError: the archive is missing or damaged, and cannot be downloaded.
    """
    from torchvision import datasets  # imported here, so that no other dataset needs it
    from torchvision.datasets.utils import check_integrity

    source = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    archive = raw / source.filename
    try:
        download = download or check_integrity(archive, source.tgz_md5)  # an undamaged archive is only unpacked
        splits = [source(raw, train, download=download) for train in (True, False)]
    except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
        remedy = f"put {source.filename} from www.cs.toronto.edu/~kriz/cifar.html into {raw}"
        raise InputError(f"{archive} is missing or damaged ({error}): {remedy}") from error
    return tuple(
        Arrays(np.ascontiguousarray(split.data), np.array(split.targets, np.int64), np.array(split.classes))
        for split in splits
    )
