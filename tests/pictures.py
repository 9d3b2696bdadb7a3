"""Real images for tests: crops of scikit-learn's photographs, alone or in class folders."""

import zipfile
from functools import cache

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

photograph = cache(load_sample_image)

# A Tiny-ImageNet of three classes.
WNIDS = ["n03", "n01", "n02"]  # as in wnids.txt, unsorted
VALIDATION = ["n02", "n03", "n01", "n01", "n03", "n02"]  # of val_0.JPEG to val_5.JPEG


def crops(count, size, seed=0):
    """Crops of real photographs, (count, *size, 3) uint8."""
    rng = np.random.default_rng(seed)
    pictures = [photograph(name) for name in ("china.jpg", "flower.jpg")]
    corners = rng.integers(0, np.array(pictures[0].shape[:2]) - size + 1, (count, 2))
    return np.stack([pictures[i % 2][y : y + size[0], x : x + size[1]] for i, (y, x) in enumerate(corners)])


def write_image(path, pixels, **options):
    """Write pixels, making the folders that it takes; options are PIL's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def write_class_folders(folder, classes, per_class, size, seed=0):
    """`<folder>/<class>/<i>.JPEG`, all different."""
    for number, name in enumerate(classes):
        for i, pixels in enumerate(crops(per_class, size, seed=[seed, number])):
            write_image(folder / name / f"{i}.JPEG", pixels, quality=95)


def pixels_of(path):
    """What PIL reads from an image file, (H, W, 3) uint8."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def write_tiny_imagenet(parent):
    """The folder `tiny-imagenet-200` as it is published, with 4 training and 2 validation images a class."""
    folder = parent / "tiny-imagenet-200"
    pixels = iter(crops(18, (64, 64)))
    for wnid in WNIDS:
        for i in range(4):
            write_image(folder / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", next(pixels))
        boxes = "".join(f"{wnid}_{i}.JPEG\t0\t0\t62\t63\n" for i in range(4))
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(boxes)
    for i in range(6):
        write_image(folder / "val" / "images" / f"val_{i}.JPEG", next(pixels))
    annotations = "".join(f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n" for i, wnid in enumerate(VALIDATION))
    (folder / "val" / "val_annotations.txt").write_text(annotations)
    (folder / "wnids.txt").write_text("\n".join(WNIDS))  # without a last newline
    (folder / "words.txt").write_text("n01\tgoldfish\nn02\tbullfrog\nn03\ttailed frog\n")
    return folder


def zipped(folder):
    """A zip of a folder, beside it."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in [folder, *sorted(folder.rglob("*"))]:
            archive.write(file, file.relative_to(folder.parent))
    return path
