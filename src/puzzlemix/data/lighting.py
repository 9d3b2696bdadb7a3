"""AlexNet's colour noise (Krizhevsky, Sutskever, Hinton, 2012, section 4.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Principal components of the colours of ImageNet's pixels, in [0, 1].
EIGENVALUES = torch.tensor([0.2175, 0.0188, 0.0045])
EIGENVECTORS = torch.tensor(  # a column each
    [
        [-0.5675, 0.7192, 0.4009],
        [-0.5808, -0.0045, -0.8140],
        [-0.5836, -0.6948, 0.4203],
    ]
)


class Lighting(nn.Module):
    """Shifts all of an image's pixels by one random colour, along the components as far as colours vary along them.

    Args:
        std: standard deviation of the share of each eigenvalue that is added; 0.1 in AlexNet.
    """

    def __init__(self, std: float):
        super().__init__()
        self.std = std

    def forward(self, image: Tensor) -> Tensor:
        """(3, H, W) uint8 in and out; what leaves the range of pixels is clipped."""
        shift = EIGENVECTORS @ (EIGENVALUES * self.std * torch.randn(3))  # (3,)
        return (image + 255 * shift[:, None, None]).round().clamp(0, 255).to(torch.uint8)
