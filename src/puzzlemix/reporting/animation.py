"""A film of one pair's puzzle while lambda goes from 0 to 1. Needs matplotlib and Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from torch import nn

from puzzlemix.files import cannot_be_written, whole_file
from puzzlemix.mixing import PuzzleMix, puzzle_mix
from puzzlemix.mixing.saliency import input_gradient, saliency_of
from puzzlemix.reporting.mixed import Batch
from puzzlemix.reporting.puzzles import grid_of_images, show_image

FORMATS = {".gif": "GIF", ".webp": "WEBP"}
COLUMNS = ("image", "partner", "mask", "Puzzle Mix")
FRAMES = 41  # lambda in steps of 1/40
FRAME_MS, LAST_FRAME_MS = 100, 1000


def draw_animation(path: Path, network: nn.Module, mixer: PuzzleMix, batch: Batch, pair: int, blocks: Any) -> None:
    """Write a GIF or WebP of a pair: its mask and its mixture for each lambda.

    Args:
        path: of the film, ending in .gif or .webp.
        network: whose saliency the puzzles use.
        mixer: whose parameters they have.
        batch: of which the pair is one.
        pair: the first image's index.
        blocks: of the mask.

    Raises:
        RunError: it cannot be written.
    """
    both = torch.stack([torch.tensor(pair), batch.partner[pair].cpu()]).to(batch.partner.device)  # (2,)
    images, labels = batch.images[both], batch.labels[both]  # (2, C, H, W), (2,)
    saliency = saliency_of(input_gradient(network, images, labels), network)  # (2, H, W)
    frames = np.linspace(0, 1, FRAMES).tolist()
    which = torch.tensor([0] * FRAMES + [1] * FRAMES, device=images.device)  # the pair, once for each lambda
    partner = torch.arange(2 * FRAMES, device=images.device).roll(FRAMES)
    lam = images.new_tensor(frames * 2)  # (2 F,)
    puzzle = puzzle_mix(images[which], saliency[which], partner, lam=lam, blocks=blocks, **vars(mixer.parameters))

    names = [batch.names[int(index)] for index in both]
    pictures = []
    for i, wanted in enumerate(frames):
        figure, (axes,) = grid_of_images(COLUMNS, 1)
        show_image(axes[0], images[0], names[0])
        show_image(axes[1], images[1], names[1])
        axes[2].imshow(puzzle.mask[i].cpu().numpy(), cmap="gray", vmin=0, vmax=1)
        axes[2].set_xlabel(f"lambda {wanted:.2f}", fontsize=7)
        show_image(axes[3], puzzle.images[i], f"keeps {float(puzzle.share[i]):.2f} of {names[0]}")
        figure.set_dpi(130)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    durations = [FRAME_MS] * (FRAMES - 1) + [LAST_FRAME_MS]
    film = {"save_all": True, "append_images": pictures[1:], "duration": durations, "loop": 0}
    try:
        with whole_file(path) as file:
            pictures[0].save(file, FORMATS[path.suffix.lower()], **film)
    except OSError as error:
        raise cannot_be_written(path, error) from error
