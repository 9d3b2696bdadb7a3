"""The progress of a training: a bar of epochs on a terminal, elsewhere a line now and then."""

import time
from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor
from tqdm import tqdm

from puzzlemix.runtime import distributed

FORMAT = "{desc}: {percentage:.1f} % |{bar}| {elapsed}, {remaining} left, {rate_fmt}{postfix}"
SECONDS_BETWEEN_LINES = 60  # the least, if there is no terminal


class ProgressBar:
    """A bar of epochs, with the loss of the last step and the error of the last evaluation. One process shows it.

    Args:
        name: the run's name.
        epochs: the number of epochs of the whole run.
        first_epoch: the point at which the bar begins, 2.5 in the middle of the third epoch.
    """

    def __init__(self, name: str, epochs: int, first_epoch: float):
        quiet = None if distributed.is_main() else True  # None: hide the bar unless this is a terminal
        self._name, self._epochs, self._error, self._line_s = name, epochs, "", time.perf_counter()
        self._bar = tqdm(total=epochs, initial=first_epoch, desc=name, unit="epoch", bar_format=FORMAT, disable=quiet)
        if first_epoch > 0 and self._bar.disable:
            distributed.print_once(f"{name}: goes on from epoch {first_epoch:g} of {epochs}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show_step(self, epoch: float, loss: Tensor) -> None:
        """Move on to the point `epoch`, and show a step's loss, ()."""
        if not self._bar.disable:  # without a bar, nothing waits for a GPU
            self._bar.set_postfix_str(f"loss {loss.item():.4f}{self._error}", refresh=False)
            self._bar.update(epoch - self._bar.n)

    def show_epoch(self, record: Mapping[str, Any]) -> None:
        """Show an epoch's record of the log; without a terminal, print it if the last line is long ago."""
        loss = f"loss {record['train_loss']:.4f}"
        if "top1_error" in record:
            self._error = f", error {record['top1_error']:.2f} %"
        self._bar.set_postfix_str(loss + self._error)
        now_s = time.perf_counter()
        if self._bar.disable and now_s - self._line_s >= SECONDS_BETWEEN_LINES:
            self._line_s = now_s
            distributed.print_once(f"{self._name}: epoch {record['epoch'] + 1} of {self._epochs}, {loss}{self._error}")
