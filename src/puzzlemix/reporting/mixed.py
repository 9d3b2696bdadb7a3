"""A picture of what a method makes of a batch, with the network as it is now; nothing of the training notices it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor, nn

from puzzlemix import distributed
from puzzlemix.errors import InputError
from puzzlemix.mixing import Mixer, PuzzleMix, puzzle_mix
from puzzlemix.mixing.draws import Draws
from puzzlemix.mixing.saliency import input_gradient, saliency_of
from puzzlemix.reporting.puzzles import draw_puzzles, grid_of_images, most_moved, save_picture, show_image
from puzzlemix.stopwatch import untimed

IMAGES, PAIRS = 32, 6
LAM = 0.5  # of puzzles: pieces of both images
COLUMNS = ("image", "partner", "mixed")


class Batch(NamedTuple):
    """Training images with partners: images (B, C, H, W) in [0, 1], labels (B,), partner (B,), names B class names."""

    images: Tensor
    labels: Tensor
    partner: Tensor
    names: list[str]


def draw_mixed(path: Path, network: nn.Module, mixer: Mixer, data: Any, seed: int) -> None:
    """Write a PNG of pairs of a dataset's images and what a method makes of them.

    Args:
        path: of the PNG.
        network: whose saliency Puzzle Mix uses; stays as it is.
        mixer: any method; stays as it is. Manifold mixup shows its mixing at the input, depth 0.
        data: a dataset of `puzzlemix.data`, loaded onto the network's device.
        seed: picks the images and what is drawn.
    """
    batch = batch_of(data, IMAGES, seed)
    if isinstance(mixer, PuzzleMix):
        finest = max(mixer.blocks, key=lambda grid: grid[0] * grid[1])
        draw_puzzles_of(path, network, mixer, batch, lam=LAM, blocks=finest, pairs=PAIRS)
    else:
        draw_pairs(path, batch, *_mix(network, mixer, batch, seed))


def batch_of(data: Any, images: int, seed: int) -> Batch:
    """The first training images of an epoch, each with the one before it as its partner."""
    of_all_processes = images * distributed.world_size()  # each is given its share
    with closing(data.train_batches(of_all_processes, False, seed, epoch=0)) as batches:
        return _paired(*next(batches), data.classes)


def batch_of_files(paths: Sequence[str | Path], size: tuple[int, int], channels: int) -> Tensor:
    """Image files, cut in the middle and resized to `size`, height and width in pixels: (B, C, H, W) in [0, 1].

    Raises:
        InputError: a file is not there or no image.
    """
    images = []
    for path in paths:
        try:
            with Image.open(path) as image:
                fitted = ImageOps.fit(image.convert("L" if channels == 1 else "RGB"), tuple(size)[::-1])
        except (OSError, UnidentifiedImageError) as error:
            raise InputError(f"{path} cannot be read as an image: give images=[first.jpg,second.jpg]") from error
        images.append(torch.from_numpy(np.array(fitted)).view(*size, channels).permute(2, 0, 1))
    return torch.stack(images).float() / 255


def as_seen(network: nn.Module, images: Tensor, names: Sequence[str]) -> Batch:
    """Images (B, C, H, W) as a batch with the labels that the network gives them; `names` of its classes."""
    with torch.no_grad():
        return _paired(images, network(images).argmax(1), names)


def draw_puzzles_of(
    path: Path, network: nn.Module, mixer: PuzzleMix, batch: Batch, lam: float, blocks: Any, pairs: int
) -> list[int]:
    """Write a PNG of the pairs of a batch in which most cells move: in most, transport moves none. Which they are."""
    saliency = saliency_of(input_gradient(network, batch.images, batch.labels), network)
    puzzle = puzzle_mix(batch.images, saliency, batch.partner, lam=lam, blocks=blocks, **vars(mixer.parameters))
    shown = most_moved(puzzle)[:pairs]
    draw_puzzles(path, batch.images, saliency, batch.partner, puzzle, batch.names, shown)
    return shown


def draw_pairs(path: Path, batch: Batch, mixed: Tensor, share: Tensor) -> None:
    """Write a PNG with a row a pair, of two classes where there are such: image, partner and what is made of them.

    Args:
        path: of the PNG.
        batch: the images.
        mixed: (B, C, H, W).
        share: of the first image, (B,).
    """
    apart = (batch.labels != batch.labels[batch.partner]).nonzero()[:, 0].tolist()
    pairs = (apart or list(range(len(batch.labels))))[:PAIRS]
    figure, all_axes = grid_of_images(COLUMNS, len(pairs))
    for row, axes in zip(pairs, all_axes, strict=True):
        other, part = int(batch.partner[row]), float(share[row])
        first, second = batch.names[row], batch.names[other]
        show_image(axes[0], batch.images[row], first)
        show_image(axes[1], batch.images[other], second)
        show_image(axes[2], mixed[row], f"{part:.2f} {first} + {1 - part:.2f} {second}" if part < 1 else first)
    save_picture(figure, path)


def _paired(images: Tensor, labels: Tensor, names: Sequence[str]) -> Batch:
    """Images (B, C, H, W) of classes (B,), each with the one before it as its partner; `names` of all classes."""
    partner = torch.arange(len(images), device=images.device).roll(1)
    return Batch(images, labels, partner, [names[label] for label in labels.tolist()])


def _mix(network: nn.Module, mixer: Mixer, batch: Batch, seed: int) -> tuple[Tensor, Tensor]:
    """Mixed images (B, C, H, W) and the first images' shares (B,), by a copy of the method with draws of its own."""
    mixer = copy.copy(mixer)
    mixer.draws, mixer.stopwatch, mixer.counts = Draws(), untimed, {}
    mixer.draws.seed(seed, 0)
    drawn = {**mixer.draw(batch.images, {}), "partner": batch.partner, "layer": 0}
    mixed, targets = mixer.mix(network, batch.images, batch.labels, drawn)
    return mixed, targets.gather(1, batch.labels[:, None])[:, 0]
