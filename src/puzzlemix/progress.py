"""The progress bar of a training: one, whatever the number of processes, and silent unless on a terminal."""

from __future__ import annotations

import time

from torch import Tensor
from tqdm import tqdm

from puzzlemix import distributed

FORMAT = "{desc}: {percentage:.1f} % |{bar}| {elapsed}, {remaining} left{postfix}"


class ProgressBar:
    """A bar of epochs.

    Args:
        name: of the run.
        epochs: of the whole run.
        first_epoch: where it begins, 2.5 in the middle of the third.
    """

    def __init__(self, name: str, epochs: int, first_epoch: float):
        quiet = None if distributed.is_main() else True  # None: unless on a terminal
        self._name, self._at = name, first_epoch
        self._since_s = time.perf_counter()
        self._bar = tqdm(total=epochs, initial=first_epoch, desc=name, bar_format=FORMAT, disable=quiet)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show_step(self, epoch: float, loss: Tensor, images: int) -> None:
        """Move on to `epoch`, a step's loss, (), beside it; an epoch has `images`."""
        if self._bar.disable:
            return  # and no GPU is waited for
        now_s = time.perf_counter()
        rate = (epoch - self._at) * images / (now_s - self._since_s)
        self._bar.set_postfix_str(f"loss {loss.item():.4f}, {rate:.0f} images/s", refresh=False)
        self._bar.update(epoch - self._at)
        self._at, self._since_s = epoch, now_s

    def show_error(self, top1_error: float) -> None:
        """Name the last epoch's error, in percent."""
        self._bar.set_description_str(f"{self._name}, error {top1_error:.2f} %")
        self._since_s = time.perf_counter()  # evaluation is over
