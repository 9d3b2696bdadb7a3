"""AugMix's augmentation (Hendrycks et al., ICLR 2020): chains of simple operations, averaged, and mixed with the image.

Of each image a chain is 1 to 3 operations (or `depth` of them), each of a strength of its own; `width` chains are
averaged with weights from a Dirichlet distribution, and the average is mixed with the image by a share from a Beta
distribution. An operation (`operations.py`) is applied at once to all images of a batch that drew it, on their device;
what is random is drawn on the CPU.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from puzzlemix.mixing.draws import Draws, on_device
from puzzlemix.mixing.operations import LEVELS, OPERATIONS, apply
from puzzlemix.runtime.errors import require, require_number, require_whole

LONGEST = 3  # chain whose length is drawn
NONE = -1


class Chains(NamedTuple):
    """What is drawn for N images, on the CPU; D is the longest chain's length."""

    operation: np.ndarray  # (D, N, width) int, place in OPERATIONS, or NONE
    level: np.ndarray  # (D, N, width), strength
    sign: np.ndarray  # (D, N, width), -1 or 1, of operations that have a direction
    weight: np.ndarray  # (N, width), of each chain
    share: np.ndarray  # (N,), of the chains in the result


class Augmentation:
    """AugMix's augmentation.

    Args:
        severity: an operation's strength is drawn from U(0.1, severity), in tenths of its strongest.
        width: chains.
        depth: operations of a chain; -1: 1, 2 or 3.
        alpha: of the Dirichlet and the Beta distribution.

    Raises:
        InputError: (a ValueError) on a parameter out of range.
    """

    def __init__(self, severity: float = 3, width: int = 3, depth: int = -1, alpha: float = 1.0):
        require_number("severity", severity, 0.1, LEVELS)
        require_whole("width", width, least=1)
        if depth != -1:
            require_whole("depth, unless it is -1,", depth, least=1)
        require_number("alpha", alpha)
        require(alpha > 0, f"alpha must be above 0, not {alpha}")
        self.severity, self.width, self.depth, self.alpha = severity, width, depth, alpha

    def draw(self, images: int, draws: Draws) -> Chains:
        """Chains for so many images, from the stream of this process alone."""
        stream, drawn = draws.own_stream, self.depth == -1
        shape = (LONGEST if drawn else self.depth, images, self.width)
        operation = stream.integers(len(OPERATIONS), size=shape)
        if drawn:
            length = stream.integers(1, LONGEST + 1, size=shape[1:])  # (N, width)
            operation[np.arange(LONGEST)[:, None, None] >= length] = NONE
        return Chains(
            operation,
            stream.uniform(0.1, self.severity, shape),
            stream.choice([-1.0, 1.0], shape),
            stream.dirichlet([self.alpha] * self.width, images),
            stream.beta(self.alpha, self.alpha, images),
        )

    def __call__(self, images: Tensor, chains: Chains) -> Tensor:
        """Augment N images.

        Args:
            images: (N, C, H, W), pixels in [0, 1]; chains work on them in 256 values.
            chains: of N images.

        Returns:
            (N, C, H, W) in [0, 1], of the images' dtype.
        """
        whole = (images * 255).round().clamp(0, 255).to(torch.uint8)
        ends = whole.repeat_interleave(self.width, 0)  # (N width, C, H, W)
        for drawn in zip(*chains[:3], strict=True):
            ends = apply(ends, *(numbers.ravel() for numbers in drawn))
        weight, share = (on_device(images.device, torch.from_numpy(drawn)).to(images) for drawn in chains[3:])
        weighted = ends.unflatten(0, (-1, self.width)) * (weight / 255)[:, :, None, None, None]  # (N, width, C, H, W)
        share = share[:, None, None, None]  # (N, 1, 1, 1)
        return (1 - share) * images + share * weighted.sum(1)
