"""Evaluating a network: sums over images of its dataset, of all processes together, and the errors that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from puzzlemix import distributed, preemption
from puzzlemix.data.sharding import evaluation_shards
from puzzlemix.saved_sums import SavedSums, Sums

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


@dataclass(frozen=True)
class Evaluator:
    """A network and the images that it is evaluated on.

    Attributes:
        network: in any mode; evaluated in eval mode.
        data: a dataset of `puzzlemix.data`, loaded onto the network's device.
        batch_size: images at a time, of each process.
        seed: of whatever an evaluation draws.
        saved: where what is measured is kept meanwhile; None: nowhere.
    """

    network: nn.Module
    data: Any
    batch_size: int
    seed: int = 0
    saved: SavedSums | None = None

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
            of: what the sum depends on beside the title and what `saved` is of, as text: batches that were measured
                before are passed over.
        """
        images = images or self.test_images
        shards, key = evaluation_shards(images.places, self.batch_size), f"{title} {of}".strip()
        kept = self.saved.get(key) if self.saved else None
        done, values = kept or Sums(0, torch.zeros(size, dtype=torch.float64))
        values = values.to(self.device)
        training = self.network.training
        self.network.eval()
        rounds = max(distributed.gather(len(shards)))  # of the process with the most batches
        with closing(images.read(shards[done:])) as batches, _bar(title, len(shards), done) as bar:
            for batch in range(rounds):
                preemption.stop_if_asked()
                if not done <= batch < len(shards):
                    continue
                pixels, labels = next(batches)
                values = values + measure(batch, pixels, labels)
                bar.update()
                if self.saved:
                    self.saved.keep(key, Sums(batch + 1, values), complete=batch + 1 == len(shards))
        self.network.train(training)
        return distributed.sum_over_processes(values).tolist()


def _bar(title: str, count: int, done: int) -> tqdm:
    """How far a measurement is and what time is left, on a terminal."""
    quiet = None if distributed.is_main() else True  # None: unless on a terminal
    return tqdm(desc=title, total=count, initial=done, unit="batch", leave=False, disable=quiet)


def clean_errors(evaluator: Evaluator) -> dict[str, float]:
    """Top-1 and top-5 error on unchanged images, in percent."""
    top1, top5 = evaluator.errors("evaluation")
    return {"top1_error": top1, "top5_error": top5}


def train_error(evaluator: Evaluator) -> float:
    """Top-1 error on the training images, neither augmented nor mixed, in percent."""
    return evaluator.errors("training images", images=evaluator.train_images)[0]
