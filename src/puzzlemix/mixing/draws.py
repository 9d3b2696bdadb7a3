"""The random streams of a mixer.

Shared draws (lambda, the block grid, coins, scales) are equal on all processes, so that a global batch has one of each.
Own draws (partners, noise) differ from process to process. Neither touches the random states of the caller.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puzzlemix.runtime import distributed
from puzzlemix.runtime.seeding import numpy_stream


class Draws:
    """Two random streams, shared and own.

    Without a call of `seed` they start at the first draw, from `torch.initial_seed()` of rank 0. Two mixers then draw
    the same numbers, and a program that resumes from a checkpoint repeats those of its first batches.
    """

    def __init__(self) -> None:
        self._shared: np.random.Generator | None = None
        self._own: np.random.Generator | None = None

    def seed(self, *entropy: int) -> None:
        """Start both streams again. All processes must give the same integers (a seed, an epoch)."""
        self._shared = numpy_stream("shared draws", *entropy)
        self._own = numpy_stream("own draws", *entropy, distributed.rank())

    def _streams(self) -> tuple[np.random.Generator, np.random.Generator]:
        if self._shared is None:
            self.seed(distributed.from_first_process(torch.initial_seed()))
        return self._shared, self._own

    def coin(self, probability: float) -> bool:
        """True with this probability; shared."""
        return bool(self._streams()[0].random() < probability)

    def beta(self, alpha: float) -> float:
        """A share from Beta(alpha, alpha); shared."""
        return float(self._streams()[0].beta(alpha, alpha))

    def choice(self, options: Sequence[Any]) -> Any:
        """One of the options; shared."""
        return options[int(self._streams()[0].integers(len(options)))]

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number from U(low, high); shared."""
        return float(self._streams()[0].uniform(low, high))

    @property
    def own_stream(self) -> np.random.Generator:
        """The stream of this process alone, for other distributions. `on_device` moves what it draws to a device."""
        return self._streams()[1]

    def betas(self, alpha: float, count: int, device: torch.device) -> Tensor:
        """Shares from Beta(alpha, alpha), (count,) float64; own."""
        return on_device(device, torch.from_numpy(self.own_stream.beta(alpha, alpha, count)))

    def permutation(self, length: int, device: torch.device) -> Tensor:
        """A permutation of 0..length - 1, (length,) int64; own."""
        return on_device(device, torch.from_numpy(self.own_stream.permutation(length)))

    def uniform_like(self, images: Tensor, low: float, high: float) -> Tensor:
        """Noise from U(low, high) in the images' shape, drawn on their device; own."""
        generator = torch.Generator(images.device).manual_seed(int(self.own_stream.integers(2**63)))
        return torch.empty_like(images).uniform_(low, high, generator=generator)


def on_device(device: torch.device, values: Tensor) -> Tensor:
    """Copy values to the device; to a GPU from pinned memory, so that the host does not wait for the copy."""
    on_gpu = torch.device(device).type == "cuda"
    return values.pin_memory().to(device, non_blocking=True) if on_gpu else values.to(device)
