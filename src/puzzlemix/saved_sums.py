"""What an evaluation has measured so far, in a file: one that is killed goes on from there, with the same numbers."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from puzzlemix.files import write_text

WRITTEN_EVERY_S = 2.0


class Sums(NamedTuple):
    """Sums over the first batches of a measurement: how many, and what they add up to, (S,) float64."""

    batches: int
    values: Tensor


class SavedSums:
    """The sums of one process's share, by the name of the measurement.

    Args:
        path: of the file; one that is damaged, or of something else, counts as not there.
        of: what the sums depend on, in plain data: the network, the seed, the images of a batch.
    """

    def __init__(self, path: Path, of: Mapping[str, Any]):
        self.path, self._of = path, dict(of)
        self._sums: dict[str, Sums] = {}
        self._written_s = time.monotonic()
        try:
            content = json.loads(path.read_text())
            if content["of"] == self._of:
                self._sums = {
                    name: Sums(int(batches), torch.tensor(values, dtype=torch.float64))
                    for name, (batches, values) in content["sums"].items()
                }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass

    def get(self, name: str) -> Sums | None:
        """What was kept of a measurement, on the CPU; None where nothing was."""
        return self._sums.get(name)

    def keep(self, name: str, sums: Sums, complete: bool) -> None:
        """Keep the sums so far; written every few seconds, and where the measurement is complete.

        Raises:
            RunError: the file cannot be written.
        """
        self._sums[name] = sums
        if complete or time.monotonic() - self._written_s > WRITTEN_EVERY_S:
            plain = {name: [sums.batches, sums.values.tolist()] for name, sums in self._sums.items()}
            write_text(self.path, json.dumps({"of": self._of, "sums": plain}))
            self._written_s = time.monotonic()

    def remove(self) -> None:
        """Delete the file: what it was kept for is done."""
        self.path.unlink(missing_ok=True)
