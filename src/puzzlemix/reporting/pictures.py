"""Pictures of mixed images: puzzles, and pairs of any method. Needs matplotlib and Pillow."""

import copy
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from puzzlemix.data.image_files import read_fitted
from puzzlemix.mixing import Mixer, Puzzle, PuzzleMix, puzzle_mix
from puzzlemix.mixing.blocks import enlarge, move_cells, resample_grid
from puzzlemix.mixing.draws import Draws
from puzzlemix.mixing.saliency import input_gradient, saliency_of
from puzzlemix.runtime import distributed
from puzzlemix.runtime.errors import require
from puzzlemix.runtime.files import whole_file
from puzzlemix.runtime.stopwatch import untimed

PUZZLE = ("image", "partner", "its saliency", "partner's", "mask", "image moves", "partner moves", "Puzzle Mix")
MIXED_IMAGES, MIXED_PAIRS = 32, 6  # from which `draw_mixed` selects, and that it draws
MIXED_LAM = 0.5  # so that its puzzles have pieces of both images
DPI = 130


class Batch(NamedTuple):
    """Images with partners."""

    images: Tensor  # (B, C, H, W) in [0, 1]
    labels: Tensor  # (B,)
    partner: Tensor  # (B,), indices of images
    names: list[str]  # of the B images' classes

    def saliency(self, network: nn.Module) -> Tensor:
        """The saliency of the images for a network, (B, H, W)."""
        return saliency_of(input_gradient(network, self.images, self.labels), network)


def batch_of(data: Any, images: int, seed: int) -> Batch:
    """The first training images of an epoch of a dataset of `puzzlemix.data` that is loaded, clipped to [0, 1]."""
    of_all_processes = images * distributed.world_size()  # each is given its share
    with closing(data.train_batches(of_all_processes, False, seed, epoch=0)) as batches:
        images, labels = next(batches)
        return _paired(images.clamp(0, 1), labels, data.classes)


def read_images(paths: Sequence[str | Path], size: tuple[int, int], channels: int) -> Tensor:
    """Image files as images (B, C, H, W) in [0, 1] of a height and width; raises `InputError` if one is no image."""
    images = []
    for path in map(Path, map(str, paths)):  # a name such as 7 is read as a number
        require(path.is_file(), f"{path} is not there: give images=[first.jpg,second.jpg]")
        image = read_fitted(path, size).convert("L" if channels == 1 else "RGB")
        images.append(torch.from_numpy(np.array(image)).view(*size, channels).permute(2, 0, 1))
    return torch.stack(images).float() / 255


def as_seen(network: nn.Module, images: Tensor, names: Sequence[str]) -> Batch:
    """Images (B, C, H, W) as a batch with the labels that the network gives them. `names` are those of its classes."""
    with torch.no_grad():
        return _paired(images, network(images).argmax(1), names)


def _paired(images: Tensor, labels: Tensor, names: Sequence[str]) -> Batch:
    """Images (B, C, H, W) with labels (B,) as a batch in which the partner of an image is the one before it."""
    partner = torch.arange(len(images), device=images.device).roll(1)
    return Batch(images, labels, partner, [names[label] for label in labels.tolist()])


def draw_mixed(path: Path, network: nn.Module, mixer: Mixer, data: Any, seed: int) -> None:
    """Write a PNG of pairs of a loaded dataset's images and what a method makes of them; the method stays as it is.

    Manifold mixup shows its mixing at the input, AugMix an augmented view. The seed selects the images and what the
    method draws. Raises `RunError` if the PNG cannot be written.
    """
    batch = batch_of(data, MIXED_IMAGES, seed)
    if not isinstance(mixer, PuzzleMix):
        _draw_pairs(path, batch, *_mix(network, mixer, batch, seed))
        return
    saliency, finest = batch.saliency(network), max(mixer.blocks, key=lambda grid: grid[0] * grid[1])
    puzzle = puzzle_mix(batch.images, saliency, batch.partner, lam=MIXED_LAM, blocks=finest, **vars(mixer.parameters))
    draw_puzzles(path, batch, saliency, [(puzzle, pair) for pair in most_moved(puzzle)[:MIXED_PAIRS]])


def _mix(network: nn.Module, mixer: Mixer, batch: Batch, seed: int) -> tuple[Tensor, Tensor]:
    """Mixed images (B, C, H, W) and the first images' shares (B,), by a copy of the method with draws of its own."""
    mixer = copy.copy(mixer)
    mixer.draws, mixer.stopwatch, mixer.counts = Draws(), untimed, {}
    mixer.draws.seed(seed, 0)
    mixer.prob = 1.0
    given = {name: value for name, value in (("partner", batch.partner), ("layer", 0)) if name in mixer.given_names}
    mixed, targets = mixer(network, batch.images, batch.labels, **given)
    share = targets.gather(1, batch.labels[:, None])[:, 0]
    return mixed[-len(targets) :], share  # of a method that adds views, the last of them


def _draw_pairs(path: Path, batch: Batch, mixed: Tensor, share: Tensor) -> None:
    """Write a PNG with a row for each pair: image, partner, mixed image (B, C, H, W), the first image's share (B,)."""
    of_two_classes = (batch.labels != batch.labels[batch.partner]).nonzero()[:, 0].tolist()
    pairs = (of_two_classes or list(range(len(batch.labels))))[:MIXED_PAIRS]
    figure, all_axes = _grid_of_images(("image", "partner", "mixed"), len(pairs))
    for pair, axes in zip(pairs, all_axes, strict=True):
        first, second = _show_pair(axes, batch, pair)
        part = float(share[pair])
        _show_image(axes[2], mixed[pair], f"{part:.2f} {first}\n+ {1 - part:.2f} {second}" if part < 1 else first)
    save_picture(figure, path)


def draw_puzzles(path: Path, batch: Batch, saliency: Tensor, rows: Sequence[tuple[Puzzle, int]]) -> None:
    """Write a PNG of puzzles. An arrow shows where a visible cell came from, and what the mask hides is dim.

    Each row is what `puzzle_mix` made of the batch, and the pair to draw; saliency is (B, H, W). Raises `RunError` if
    the PNG cannot be written.
    """
    figure, all_axes = _grid_of_images(PUZZLE, len(rows))
    for (puzzle, pair), axes in zip(rows, all_axes, strict=True):
        first, second = _show_pair(axes, batch, pair)
        other, share, mask = int(batch.partner[pair]), float(puzzle.share[pair]), puzzle.mask[pair].cpu()
        axes[2].imshow(saliency[pair].cpu().numpy(), cmap="magma")
        axes[3].imshow(saliency[other].cpu().numpy(), cmap="magma")
        _show_image(axes[4], mask[None], f"keeps {share:.2f}")
        sources = (None, None) if puzzle.sources is None else puzzle.sources[:, pair]
        _show_moves(axes[5], batch.images[pair], sources[0], mask > 0)
        _show_moves(axes[6], batch.images[other], sources[1], mask < 1)
        _show_image(axes[7], puzzle.images[pair], f"{share:.2f} {first}\n+ {1 - share:.2f} {second}")
    save_picture(figure, path)


def _show_moves(ax: Axes, image: Tensor, source: Tensor | None, visible: Tensor) -> None:
    """Show a moved image (C, H, W), dim outside `visible` (n_h, n_w), with an arrow from the source of each cell."""
    size = image.shape[-2:]
    moved = image if source is None else move_cells(image[None], source[None])[0]
    _show_image(ax, moved.cpu() * torch.where(enlarge(visible, size), 1.0, 0.25), "")
    if source is None:
        return
    source = source.cpu()
    moves = visible_moves(source, visible)
    ax.set_xlabel(f"moved cells: {int(moves.sum())}", fontsize=7)
    n_h, n_w = source.shape
    for target in moves.nonzero().tolist():
        (y0, x0), (y1, x1) = (
            ((row + 0.5) * size[0] / n_h - 0.5, (column + 0.5) * size[1] / n_w - 0.5)
            for row, column in (divmod(int(source[tuple(target)]), n_w), target)
        )
        ax.annotate("", (x1, y1), (x0, y0), arrowprops={"arrowstyle": "->", "color": "tab:orange", "lw": 0.8})


def visible_moves(source: Tensor, visible: Tensor) -> Tensor:
    """Whether a cell is visible and came from elsewhere: source (..., N_h, N_w), visible (..., n_h, n_w), as source."""
    own = torch.arange(source.shape[-2] * source.shape[-1], device=source.device)
    return resample_grid(visible, source.shape[-2:]) & (source != own.view(source.shape[-2:]))


def most_moved(puzzle: Puzzle) -> list[int]:
    """The pairs of a batch, first those with the most visible moves, since transport moves nothing in most pairs."""
    if puzzle.sources is None:
        return list(range(len(puzzle.share)))
    visible = torch.stack([puzzle.mask > 0, puzzle.mask < 1])  # (2, B, n_h, n_w)
    moves = visible_moves(puzzle.sources, visible).sum((0, 2, 3))  # (B,)
    return moves.argsort(descending=True, stable=True).tolist()


def save_picture(figure: Figure, path: Path) -> None:
    """Write a PNG; raises `RunError` if it cannot be written."""
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=DPI)


def _grid_of_images(titles: Sequence[str], rows: int) -> tuple[Figure, np.ndarray]:
    """A figure with a column for each title, and its axes without ticks, (rows, columns)."""
    height_in = 1.6 * rows + 0.3
    figure = Figure(figsize=(1.3 * len(titles), height_in))
    figure.subplots_adjust(0.005, 0.35 / height_in, 0.995, 1 - 0.25 / height_in, wspace=0.06, hspace=0.3)
    all_axes = figure.subplots(rows, len(titles), squeeze=False)
    for title, ax in zip(titles, all_axes[0], strict=True):
        ax.set_title(title, fontsize=9)
    for ax in all_axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    return figure, all_axes


def _show_pair(axes: Sequence[Axes], batch: Batch, first: int) -> tuple[str, str]:
    """Show an image and its partner on the first two axes; returns the names of their classes."""
    second = int(batch.partner[first])
    for ax, i in zip(axes, (first, second), strict=False):
        _show_image(ax, batch.images[i], batch.names[i])
    return batch.names[first], batch.names[second]


def _show_image(ax: Axes, image: Tensor, caption: str) -> None:
    """An image (C, H, W); unless there are 3 channels, the mean over them is shown in grey."""
    image = image.permute(1, 2, 0) if image.shape[0] == 3 else image.mean(0)
    ax.imshow(image.cpu().numpy(), cmap="gray", vmin=0, vmax=1)
    ax.set_xlabel(caption, fontsize=7)
