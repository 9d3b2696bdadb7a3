"""Evaluating a network: sums over images of its dataset, of all processes together, and the errors that follow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from puzzlemix import distributed, preemption
from puzzlemix.data.sharding import evaluation_shards
from puzzlemix.files import write_text
from puzzlemix.nested import has_shape, is_number, read_nested

Perturb = Callable[[int, Tensor, Tensor], Tensor]  # number of the batch, images, labels -> images
Measure = Callable[[int, Tensor, Tensor], Tensor]  # the same -> what is summed up, (S,)


class Images(NamedTuple):
    """Some images of a set: their places in it, and how batches of places are read.

    Attributes:
        places: of the images, which all processes share among them.
        read: batches of places -> batches of pixels (B, C, H, W) in [0, 1] and labels (B,), on the network's device.
    """

    places: Sequence[int]
    read: Callable[[Sequence[Sequence[int]]], Iterator[tuple[Tensor, Tensor]]]


class KeptTotals:
    """The totals that an evaluation has finished, in a file: one that is stopped goes on with those that are missing.

    The first process reads and writes the file.

    Args:
        path: of the file; one that is damaged, or of something else, counts as not there.
        of: what the totals depend on, in plain data.
    """

    def __init__(self, path: Path, of: Mapping[str, Any]):
        self.path, self._of = path, dict(of)
        content = read_nested(path) if distributed.is_main() else None
        ours = has_shape(content, {"of": self._of.__eq__, "totals": {"*": [is_number]}})
        self._totals: dict[str, list[float]] = distributed.from_first_process(content["totals"] if ours else {})

    def get(self, name: str) -> list[float] | None:
        """A total, (S,), on all processes; None where it is not finished."""
        return self._totals.get(name)

    def keep(self, name: str, total: list[float]) -> None:
        """Write a total down, and all before it.

        Raises:
            RunError: the file cannot be written.
        """
        self._totals[name] = total
        if distributed.is_main():
            write_text(self.path, json.dumps({"of": self._of, "totals": self._totals}) + "\n")

    def remove(self) -> None:
        """Delete the file: what it was kept for is done."""
        if distributed.is_main():
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Evaluator:
    """A network and the images that it is evaluated on.

    Attributes:
        network: in any mode; evaluated in eval mode.
        data: a dataset of `puzzlemix.data`, loaded onto the network's device.
        batch_size: images at a time, of each process.
        seed: of whatever an evaluation draws.
        kept: where totals are kept once they are finished; None: nowhere.
    """

    network: nn.Module
    data: Any
    batch_size: int
    seed: int = 0
    kept: KeptTotals | None = None

    def keeping(self, path: Path, weights: str) -> Evaluator:
        """The same, but what it measures is kept in a file, and what is there is not measured again.

        Args:
            path: of the file.
            weights: the network's `digest`.
        """
        of = {
            "weights": weights,
            "evaluated_on": self.data.evaluated_on,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "processes": distributed.world_size(),
            "device": self.device.type,
            "torch": torch.__version__,
        }
        return replace(self, kept=KeptTotals(path, of))

    @property
    def device(self) -> torch.device:
        """The network's."""
        return next(self.network.parameters()).device

    @property
    def test_images(self) -> Images:
        """All that the dataset has to evaluate on."""
        return Images(range(self.data.test_count), self.data.test_batches)

    @property
    def train_images(self) -> Images:
        """All that the dataset has to train on, neither augmented nor mixed."""
        return Images(range(self.data.train_count), self.data.plain_train_batches)

    def errors(
        self, title: str, perturb: Perturb | None = None, images: Images | None = None, of: str = ""
    ) -> tuple[float, float]:
        """Top-1 and top-5 error in percent, each image counted once.

        Args:
            perturb: what is done to a batch's images first.
            title, images, of: see `total`.
        """

        def count(batch: int, images: Tensor, labels: Tensor) -> Tensor:
            shown = images if perturb is None else perturb(batch, images, labels)
            with torch.no_grad():
                logits = self.network(shown)  # (B, K)
            best = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]  # (B, 5)
            return torch.stack([best[:, 0].sum(), best.any(1).sum(), torch.tensor(len(labels), device=best.device)])

        right1, right5, total = self.total(title, 3, count, images, of)
        return 100 * (1 - right1 / total), 100 * (1 - right5 / total)

    def total(self, title: str, size: int, measure: Measure, images: Images | None = None, of: str = "") -> list[float]:
        """The sum of `measure`, (size,), over all batches of all processes; the network is in eval mode meanwhile.

        A signal to stop ends it after a batch.

        Args:
            title: of the progress bar.
            size: of the sum.
            measure: a batch.
            images: the dataset's test images, unless others are given.
            of: what the sum depends on besides the title and what `keeping` names, as text.
        """
        name = f"{title} {of}".strip()
        if self.kept and (before := self.kept.get(name)):
            return before

        images = images or self.test_images
        shards = evaluation_shards(images.places, self.batch_size)
        values = torch.zeros(size, dtype=torch.float64, device=self.device)
        training = self.network.training
        self.network.eval()
        rounds = max(distributed.gather(len(shards)))  # of the process with the most batches
        with closing(images.read(shards)) as batches, _bar(title, len(shards)) as bar:
            for batch in range(rounds):
                preemption.stop_if_asked()
                if batch < len(shards):
                    pixels, labels = next(batches)
                    values = values + measure(batch, pixels, labels)
                    bar.update()
        self.network.train(training)
        total = distributed.sum_over_processes(values).tolist()
        if self.kept:
            self.kept.keep(name, total)
        return total


def _bar(title: str, count: int) -> tqdm:
    """How far a measurement is and what time is left, on a terminal."""
    quiet = None if distributed.is_main() else True  # None: unless on a terminal
    return tqdm(desc=title, total=count, unit="batch", leave=False, disable=quiet)


def clean_errors(evaluator: Evaluator) -> dict[str, float]:
    """Top-1 and top-5 error on unchanged images, in percent."""
    top1, top5 = evaluator.errors("evaluation")
    return {"top1_error": top1, "top5_error": top5}


def train_error(evaluator: Evaluator) -> float:
    """Top-1 error on the training images, neither augmented nor mixed, in percent."""
    return evaluator.errors("training images", images=evaluator.train_images)[0]
