"""Normalisation as a network's first layer, so that networks take pixels in [0, 1] and attacks work on pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from puzzlemix.runtime.errors import require


class Normalize(nn.Module):
    """(x - mean) / std per channel. The state dict does not contain the two.

    Args:
        mean, std: a value per channel, for pixels in [0, 1]; std above 0.
    """

    mean: Tensor  # (C, 1, 1)
    std: Tensor  # (C, 1, 1)

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        fits = len(mean) == len(std) > 0 and min(std) > 0
        require(fits, f"mean and std need a value per channel, std above 0, not {list(mean)} and {list(std)}")
        self.register_buffer("mean", torch.tensor(list(mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(-1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, C, H, W)."""
        return (pixels - self.mean) / self.std
