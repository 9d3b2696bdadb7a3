"""A picture of what a method makes of a batch, with the network as it is now; nothing of the training notices it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from puzzlemix.mixing import Mixer, PuzzleMix, puzzle_mix
from puzzlemix.mixing.draws import Draws
from puzzlemix.reporting.batch import Batch, batch_of
from puzzlemix.reporting.pictures import grid_of_images, save_picture, show_image
from puzzlemix.reporting.puzzles import draw_puzzles, most_moved
from puzzlemix.runtime.stopwatch import untimed

IMAGES, PAIRS = 32, 6
LAM = 0.5  # of puzzles: pieces of both images
COLUMNS = ("image", "partner", "mixed")


def draw_mixed(path: Path, network: nn.Module, mixer: Mixer, data: Any, seed: int) -> None:
    """Write a PNG of pairs of a dataset's images and what a method makes of them.

    Args:
        path: of the PNG.
        network: whose saliency Puzzle Mix uses; stays as it is.
        mixer: any method; stays as it is. Manifold mixup shows its mixing at the input, AugMix an augmented view.
        data: a dataset of `puzzlemix.data`, loaded onto the network's device.
        seed: picks the images and what is drawn.

    Raises:
        RunError: it cannot be written.
    """
    batch = batch_of(data, IMAGES, seed)
    if not isinstance(mixer, PuzzleMix):
        draw_pairs(path, batch, *_mix(network, mixer, batch, seed))
        return
    saliency, finest = batch.saliency(network), max(mixer.blocks, key=lambda grid: grid[0] * grid[1])
    puzzle = puzzle_mix(batch.images, saliency, batch.partner, lam=LAM, blocks=finest, **vars(mixer.parameters))
    draw_puzzles(path, batch, saliency, [(puzzle, pair) for pair in most_moved(puzzle)[:PAIRS]])


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
        show_image(axes[2], mixed[row], f"{part:.2f} {first}\n+ {1 - part:.2f} {second}" if part < 1 else first)
    save_picture(figure, path)


def _mix(network: nn.Module, mixer: Mixer, batch: Batch, seed: int) -> tuple[Tensor, Tensor]:
    """Mixed images (B, C, H, W) and the first images' shares (B,), by a copy of the method with draws of its own."""
    mixer = copy.copy(mixer)
    mixer.draws, mixer.stopwatch, mixer.counts = Draws(), untimed, {}
    mixer.draws.seed(seed, 0)
    mixer.prob = 1.0
    given = {name: value for name, value in (("partner", batch.partner), ("layer", 0)) if name in mixer.given_names}
    mixed, targets = mixer(network, batch.images, batch.labels, **given)
    last = mixed[-len(targets) :]  # of a method that adds views, the last of them
    return last, targets.gather(1, batch.labels[:, None])[:, 0]
