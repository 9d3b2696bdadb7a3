"""The random streams of a mixer.

Shared draws (lambda, the block grid, coins, scales) are equal on all processes, so that a global batch has one of each.
Own draws (partners, noise) differ from process to process. Neither touches the random states of the caller.
"""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, ClassVar
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from puzzlemix.runtime import distributed
from puzzlemix.runtime.seeding import numpy_stream


class Draws:
    """Two random streams, shared and own.

    Without a call of `seed` they start at the first draw, from `torch.initial_seed()` of rank 0 and a number that no
    other living mixer has; a program that resumes from a checkpoint repeats the draws of its first batches. In a worker
    of a DataLoader they start again, from what they started from here and the worker's own seed, which torch draws for
    each epoch.
    """

    _unseeded: ClassVar["WeakSet[Draws]"] = WeakSet()

    def __init__(self) -> None:
        self._entropy: tuple[int, ...] | None = None
        self._worker_seed: int | None = None

    def seed(self, *entropy: int) -> None:
        """Start both streams again. All processes must give the same integers (a seed, an epoch)."""
        self._unseeded.discard(self)
        self._start(entropy, _seed_of_this_worker())

    def state(self) -> dict[str, Any]:
        """The state of both streams, as plain data."""
        states = [stream.bit_generator.state for stream in self._streams()]
        return {"entropy": list(self._entropy), "streams": states}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self.seed(*state["entropy"])
        for stream, saved in zip(self._streams(), state["streams"], strict=True):
            stream.bit_generator.state = saved

    def _start(self, entropy: tuple[int, ...], worker_seed: int | None) -> None:
        self._entropy, self._worker_seed = entropy, worker_seed
        self._shared = numpy_stream("shared draws", *entropy)
        self._own = numpy_stream("own draws", *entropy, distributed.rank())

    def _streams(self) -> tuple[np.random.Generator, np.random.Generator]:
        worker_seed = _seed_of_this_worker()
        if self._entropy is None:
            taken = {other._entropy for other in self._unseeded}
            seed = torch.initial_seed()
            unused = next((seed, number) for number in count() if (seed, number) not in taken)
            self._start(unused if worker_seed is not None else distributed.from_first_process(unused), worker_seed)
            self._unseeded.add(self)
        elif worker_seed != self._worker_seed:  # this is a copy of the one in the program
            self._start((*self._entropy, worker_seed), worker_seed)
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


def _seed_of_this_worker() -> int | None:
    """The seed of this process, if it is a worker of a DataLoader: another one in each worker and each epoch."""
    worker = get_worker_info()
    return None if worker is None else worker.seed
