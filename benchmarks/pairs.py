"""Images with their saliency, for benchmarks: photographs, or the dataset of a trained network."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.photographs import crops
from puzzlemix.mixing import PuzzleMix
from puzzlemix.mixing.blocks import Grid, resample_grid
from puzzlemix.mixing.costs import MaskCosts, block_saliency, cells_of_blocks, mask_costs
from puzzlemix.mixing.puzzle import PuzzleParameters
from puzzlemix.mixing.saliency import input_gradient, saliency_of
from puzzlemix.mixing.transport import transport_grid
from puzzlemix.networks import preactresnet18

BLOCKS = (2, 4, 8, 16)  # blocks per side of the mask


class Pairs(NamedTuple):
    """A batch in which every image is mixed with the next, and the parameters of mixing."""

    images: Tensor  # (B, C, H, W) in [0, 1]
    saliency: Tensor  # (B, H, W)
    parameters: PuzzleParameters

    @property
    def partner(self) -> Tensor:  # (B,)
        return torch.arange(len(self.images), device=self.images.device).roll(1)

    def shares(self, grid: Grid) -> Tensor:
        """The share of each block in its image's saliency, (B, n_h, n_w)."""
        return block_saliency(self.saliency, grid)[0]

    def mask_costs(self, share: Tensor) -> MaskCosts:
        """The terms of E(z), from `shares`."""
        cells = cells_of_blocks(self.images, tuple(share.shape[1:]), self.parameters.neigh_size)
        pair = cells, cells[self.partner], share, share[self.partner]
        return mask_costs(*pair, self.parameters.beta, self.parameters.gamma)

    def transport_cells(self, mask: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """What `transport_plan` takes, for both images of each pair: shares and visible cells, (2 B, N_h, N_w) each.

        `share` has the shares of the mask's blocks; cells may be smaller than blocks.
        """
        grid = tuple(mask.shape[1:])
        fine = transport_grid(grid, self.images.shape[-2:], self.parameters.t_size)
        share = share if fine == grid else self.shares(fine)
        fine_mask = resample_grid(mask, fine)
        return torch.cat([share, share[self.partner]]), torch.cat([fine_mask > 0, fine_mask < 1])


def pairs_of_photographs(batch: int, pixels: int, parameters: PuzzleParameters, device: str) -> Pairs:
    """Square crops of scikit-learn's two photographs, with their saliency for an untrained network."""
    images = (crops(batch, pixels, pixels, seed=0).float() / 255).to(device)
    torch.manual_seed(0)
    network = preactresnet18(10, initial_channels=8, mean=[0.5] * 3, std=[0.25] * 3).to(device)
    labels = torch.arange(batch, device=device) % 10
    return Pairs(images, saliency_of(input_gradient(network, images, labels), network), parameters)


def of_checkpoint(checkpoint: str, configs: Path, batches: int, device: str) -> list[Pairs]:
    """Batches of 100 training images of a run, with their saliency for the trained network in eval mode.

    Raises:
        InputError: the checkpoint is missing, damaged or does not fit its config, or the dataset does not exist.
    """
    from puzzlemix.cli.config import load_experiment  # imported here, since photographs need no Hydra

    data, network, mixer, _ = load_experiment(checkpoint, configs, torch.device(device)).experiment
    parameters = mixer.parameters if isinstance(mixer, PuzzleMix) else PuzzleParameters()
    pairs = []
    for images, labels in data.train_batches(100, False, seed=0, epoch=0):
        pairs.append(Pairs(images, saliency_of(input_gradient(network, images, labels), network), parameters))
        if len(pairs) == batches:
            break
    return pairs
