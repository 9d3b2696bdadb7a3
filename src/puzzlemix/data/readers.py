"""Processes that read images ahead of a training or an evaluation, and outlast it by its last step."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from puzzlemix.runtime.errors import InputError, RunError

LAST_READS_S = 60  # of a reader that was told to end


def read_batches(
    images: Dataset, shards: Sequence[Sequence[int]], workers: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """The images at these indices, in [0, 1], and labels, as they come from the workers, on the device.

    Args:
        images: (3, H, W) uint8, with labels.
        shards: the indices, batch by batch.
        workers: processes that read; 0 for none.
        device: for the batches.

    Raises:
        RunError: an image cannot be read.
    """
    loader = DataLoader(
        images,
        batch_sampler=shards,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=_outlast_sigterm,
        generator=torch.Generator(),  # its own: the global one is the training loop's
    )
    try:
        for pixels, labels in _with_workers_started(loader):
            yield (
                pixels.to(device, non_blocking=True).float().div_(255),
                labels.to(device, non_blocking=True),
            )
    except InputError as error:  # a worker's comes as its traceback, which ends in the message
        message = str(error).strip().rpartition("InputError: ")[2]
        raise RunError(message) from error.with_traceback(None)  # whose frames would keep the workers


def _with_workers_started(loader: DataLoader) -> Iterator[Sequence[Tensor]]:
    """Its batches. Workers inherit that SIGTERM is held back here, until they can outlast it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _outlast_sigterm(worker: int) -> None:
    """Read on for a while where a cluster's signal comes to all processes: the one that trains finishes its step."""
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(LAST_READS_S))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
