"""The progress of a training: on a terminal a bar over a table of the last epochs, elsewhere a line now and then."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from torch import Tensor
from tqdm import tqdm

from puzzlemix.runtime import distributed

FORMAT = "{desc}: {percentage:.1f} % |{bar}| {elapsed}, {remaining} left{postfix}"
EPOCHS = 5  # shown in the table
COLUMNS = ("epoch", "rate", "loss", "accuracy %", "top-1 error %", "top-5 error %", "seconds")
SECONDS_BETWEEN_LINES = 60  # at least, without a terminal


class ProgressBar:
    """A bar of epochs and a table of the log's last ones; only the first process shows them.

    Args:
        name: of the run.
        epochs: of the whole run.
        first_epoch: the point at which the bar begins, 2.5 in the middle of the third epoch.
        records: of the log so far, as in `log.jsonl`.
    """

    def __init__(self, name: str, epochs: int, first_epoch: float, records: Sequence[Mapping[str, Any]] = ()):
        quiet = None if distributed.is_main() else True  # None: unless on a terminal
        self._name, self._epochs, self._at = name, epochs, first_epoch
        self._records = list(records[-EPOCHS:])
        self._since_s = self._line_s = time.perf_counter()
        self._bar = tqdm(total=epochs, initial=first_epoch, desc=name, bar_format=FORMAT, disable=quiet)
        self._rows = [
            tqdm(total=0, position=1 + i, bar_format="{desc}", leave=False, disable=quiet) for i in range(1 + EPOCHS)
        ]
        self._show_records()
        if first_epoch > 0 and self._bar.disable:
            distributed.print_once(f"{name}: goes on from epoch {first_epoch:g} of {epochs}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for row in reversed(self._rows):
            row.close()
        self._bar.close()

    def show_step(self, epoch: float, loss: Tensor, images: int) -> None:
        """Move on to the point `epoch`; show a step's loss, (), and the speed, from the `images` of an epoch."""
        if self._bar.disable:
            return  # without waiting for a GPU
        now_s = time.perf_counter()
        rate = (epoch - self._at) * images / (now_s - self._since_s)
        self._bar.set_postfix_str(f"loss {loss.item():.4f}, {rate:.0f} images/s", refresh=False)
        self._bar.update(epoch - self._at)
        self._at, self._since_s = epoch, now_s

    def show_epoch(self, record: Mapping[str, Any]) -> None:
        """Add an epoch's record of the log to the table, or print a line if the last one is long ago."""
        self._records = [*self._records, record][-EPOCHS:]
        self._show_records()
        now_s = self._since_s = time.perf_counter()  # so that the speed leaves the evaluation out
        if self._bar.disable and now_s - self._line_s >= SECONDS_BETWEEN_LINES:
            self._line_s = now_s
            error = f", error {record['top1_error']:.2f} %" if "top1_error" in record else ""
            where = f"{self._name}: epoch {record['epoch'] + 1} of {self._epochs}"
            distributed.print_once(f"{where}, loss {record['train_loss']:.4f}{error}")

    def _show_records(self) -> None:
        """Show the table, the newest epoch first; before the first epoch there is none."""
        if self._bar.disable or not self._records:
            return
        lines = [COLUMNS, *(_cells(record) for record in reversed(self._records))]
        for row, line in zip(self._rows, lines, strict=False):
            row.set_description_str("".join(f"{cell:>15}" for cell in line))


def _cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of an epoch, for `COLUMNS`."""
    keys = ("train_accuracy", "top1_error", "top5_error")
    percentages = (f"{record[key]:.2f}" if key in record else "-" for key in keys)
    numbers = (*percentages, f"{record['seconds']['total']:.2f}")
    return (str(record["epoch"] + 1), f"{record['lr']:g}", f"{record['train_loss']:.4f}", *numbers)
