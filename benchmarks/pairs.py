"""What the benchmarks measure on: images with their saliency, of photographs or of a trained network's own dataset."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.photographs import crops
from puzzlemix.mixing import PuzzleMix
from puzzlemix.mixing.blocks import Grid
from puzzlemix.mixing.costs import MaskCosts, block_saliency, cells_of_blocks, mask_costs
from puzzlemix.mixing.puzzle import PuzzleParameters
from puzzlemix.mixing.saliency import input_gradient, saliency_of
from puzzlemix.networks import preactresnet18

BLOCKS = (2, 4, 8, 16)  # a side of the mask


class Pairs(NamedTuple):
    """A batch in which every image is mixed with the next, and the parameters of mixing."""

    images: Tensor  # (B, C, H, W) in [0, 1]
    saliency: Tensor  # (B, H, W)
    parameters: PuzzleParameters

    @property
    def partner(self) -> Tensor:  # (B,)
        return torch.arange(len(self.images), device=self.images.device).roll(1)

    def shares(self, grid: Grid) -> Tensor:
        """Of the images' blocks in their saliency, (B, n_h, n_w)."""
        return block_saliency(self.saliency, grid)[0]

    def mask_costs(self, share: Tensor) -> MaskCosts:
        """The terms of E(z), of `shares`."""
        cells = cells_of_blocks(self.images, tuple(share.shape[1:]), self.parameters.neigh_size)
        pair = cells, cells[self.partner], share, share[self.partner]
        return mask_costs(*pair, self.parameters.beta, self.parameters.gamma)


def pairs_of_photographs(batch: int, pixels: int, parameters: PuzzleParameters, device: str) -> Pairs:
    """Square crops of scikit-learn's two photographs, and their saliency for a network as it is initialised."""
    images = (crops(batch, pixels, pixels, seed=0).float() / 255).to(device)
    torch.manual_seed(0)
    network = preactresnet18(10, initial_channels=8, mean=[0.5] * 3, std=[0.25] * 3).to(device)
    labels = torch.arange(batch, device=device) % 10
    return Pairs(images, saliency_of(input_gradient(network, images, labels), network), parameters)


def of_checkpoint(checkpoint: str, configs: Path, batches: int, device: str) -> list[Pairs]:
    """Batches of 100 training images of a run, their saliency for the network that it trained, in eval mode.

    Raises:
        InputError: the checkpoint is missing, damaged or does not fit its config, or the dataset is not there.
    """
    from puzzlemix.cli.config import load_experiment  # here: photographs need no Hydra

    data, network, mixer, _ = load_experiment(checkpoint, configs, torch.device(device)).experiment
    parameters = mixer.parameters if isinstance(mixer, PuzzleMix) else PuzzleParameters()
    pairs = []
    for images, labels in data.train_batches(100, False, seed=0, epoch=0):
        pairs.append(Pairs(images, saliency_of(input_gradient(network, images, labels), network), parameters))
        if len(pairs) == batches:
            break
    return pairs
