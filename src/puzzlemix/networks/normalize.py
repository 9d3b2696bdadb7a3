"""Normalisation as a network's first layer: networks take pixels in [0, 1], and attacks work in pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from puzzlemix.runtime.errors import require


class Normalize(nn.Module):
    """(x - mean) / std, channel by channel. The state dict does not hold its constants.

    Args:
        mean, std: one value for each channel, for pixels in [0, 1]; std above 0.
    """

    mean: Tensor  # (C, 1, 1)
    std: Tensor  # (C, 1, 1)

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        require(len(mean) == len(std) > 0, f"mean and std need one value a channel, not {list(mean)} and {list(std)}")
        require(min(std) > 0, f"std must be above 0, not {list(std)}")
        self.register_buffer("mean", torch.tensor(list(mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(-1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, C, H, W)."""
        return (pixels - self.mean) / self.std
