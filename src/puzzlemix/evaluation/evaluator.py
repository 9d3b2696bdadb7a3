"""The evaluator of a network: sums over the images of its dataset, on all processes together, and errors from them."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from tqdm import tqdm

from puzzlemix.data.sharding import evaluation_shards
from puzzlemix.evaluation.attacks import attack, attack_options
from puzzlemix.runtime import distributed, preemption
from puzzlemix.runtime.errors import require_whole
from puzzlemix.runtime.files import write_text
from puzzlemix.runtime.nested import has_shape, is_number, read_nested
from puzzlemix.runtime.seeding import torch_seed

Perturb = Callable[[int, Tensor, Tensor], Tensor]  # number of the batch, images, labels -> images
Measure = Callable[[int, Tensor, Tensor], Tensor]  # number of the batch, images, labels -> (S,)


class Images(NamedTuple):
    """Images to evaluate on.

    Attributes:
        places: the images' places in their set; the processes share them.
        read: for batches of places, gives batches of pixels (B, C, H, W) in [0, 1] and labels (B,), on the network's
            device.
    """

    places: Sequence[int]
    read: Callable[[Sequence[Sequence[int]]], Iterator[tuple[Tensor, Tensor]]]


class KeptTotals:
    """The file of the totals that an evaluation has finished; if it is stopped, the next one measures only the rest.

    Only the first process reads and writes the file.

    Args:
        path: the file; one that is damaged or has other inputs counts as missing.
        inputs: all that the totals depend on, as plain data.
    """

    def __init__(self, path: Path, inputs: Mapping[str, Any]):
        self.path, self._inputs = path, inputs
        content = read_nested(path) if distributed.is_main() else None
        is_ours = has_shape(content, {"inputs": inputs.__eq__, "totals": {"*": [is_number]}})
        self.totals: dict[str, list[float]] = distributed.from_first_process(content["totals"] if is_ours else {})

    def keep(self, name: str, total: list[float]) -> None:
        """Add a total to the file; raises `RunError` if it cannot be written."""
        self.totals[name] = total
        if distributed.is_main():
            write_text(self.path, json.dumps({"inputs": self._inputs, "totals": self.totals}) + "\n")

    def remove(self) -> None:
        """Delete the file, once the evaluation is complete."""
        if distributed.is_main():
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Evaluator:
    """A network and the images that it is evaluated on.

    Attributes:
        network: in any mode; each measurement puts it in eval mode and then back.
        data: a dataset of `puzzlemix.data`, loaded onto the network's device.
        batch_size: images in a batch, on each process.
        seed: the seed of all random draws.
        kept: the finished totals; None if no file keeps them.
    """

    network: nn.Module
    data: Any
    batch_size: int
    seed: int = 0
    kept: KeptTotals | None = None

    def keeping(self, path: Path, weights: str) -> Self:
        """The same evaluator, which keeps its totals in a file and measures only those that the file lacks.

        `weights` is the network's `digest`: totals of other weights or settings are measured again.
        """
        inputs = {"weights": weights, "evaluated_on": self.data.evaluated_on, "seed": self.seed}
        inputs |= {"batch_size": self.batch_size, "processes": distributed.world_size()}
        inputs |= {"device": self.device.type, "torch": torch.__version__}
        return replace(self, kept=KeptTotals(path, inputs))

    @property
    def device(self) -> torch.device:
        """The network's device."""
        return next(self.network.parameters()).device

    @property
    def test_images(self) -> Images:
        """All images that the dataset has for evaluation."""
        return Images(range(self.data.test_count), self.data.test_batches)

    def errors(
        self, title: str, perturb: Perturb | None = None, images: Images | None = None, variant: str = ""
    ) -> tuple[float, float]:
        """Top-1 and top-5 error in percent. `perturb` changes the images of a batch first; for the rest see `total`."""

        def count(batch: int, images: Tensor, labels: Tensor) -> Tensor:
            shown = images if perturb is None else perturb(batch, images, labels)
            with torch.no_grad():
                logits = self.network(shown)  # (B, K)
            is_label = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]  # (B, 5), the best answer first
            number = torch.tensor(len(labels), device=logits.device)
            return torch.stack([is_label[:, 0].sum(), is_label.any(1).sum(), number])

        right1, right5, total = self.total(title, 3, count, images, variant)
        return 100 * (1 - right1 / total), 100 * (1 - right5 / total)

    def total(
        self, title: str, size: int, measure: Measure, images: Images | None = None, variant: str = ""
    ) -> list[float]:
        """The sum of `measure` over all batches of all processes. A signal to stop ends it after a batch.

        Args:
            title: the title of the progress bar.
            size: S, the length of the sum.
            measure: gives a batch's part of the sum, (S,); the network is in eval mode.
            images: the images to measure; None for the dataset's test images.
            variant: distinguishes this total, in the file of `kept`, from others of the same title.
        """
        name = f"{title} {variant}".strip()
        if self.kept and name in self.kept.totals:
            return self.kept.totals[name]

        images = images or self.test_images
        shards = evaluation_shards(images.places, self.batch_size)
        values = torch.zeros(size, dtype=torch.float64, device=self.device)
        was_training = self.network.training
        self.network.eval()
        rounds = max(distributed.gather(len(shards)))  # the largest number of batches of any process
        is_hidden = None if distributed.is_main() else True  # None: shown on a terminal only
        bar = tqdm(desc=title, total=len(shards), unit="batch", leave=False, disable=is_hidden)
        with closing(images.read(shards)) as batches, bar:
            for batch in range(rounds):
                preemption.stop_if_asked()
                if batch < len(shards):
                    pixels, labels = next(batches)
                    values = values + measure(batch, pixels, labels)
                    bar.update()
        self.network.train(was_training)
        total = distributed.sum_over_processes(values).tolist()
        if self.kept:
            self.kept.keep(name, total)
        return total


def clean_errors(evaluator: Evaluator) -> dict[str, float]:
    """Top-1 and top-5 error on unchanged test images, in percent."""
    top1, top5 = evaluator.errors("evaluation")
    return {"top1_error": top1, "top5_error": top5}


def train_error(evaluator: Evaluator) -> float:
    """Top-1 error on the training images, neither augmented nor mixed, in percent."""
    data = evaluator.data
    return evaluator.errors("training images", images=Images(range(data.train_count), data.plain_train_batches))[0]


def attack_errors(evaluator: Evaluator, attacks: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Top-1 error under each attack of `configs/attack/` in percent, as `{name}_error`.

    Random starts depend on the evaluator's seed, the process and the number of the batch, so they change with the batch
    size and the number of processes.
    """
    generator = torch.Generator(evaluator.device)
    errors = {}
    for name, settings in attacks.items():
        options = attack_options(name, settings)

        def perturb(batch: int, images: Tensor, labels: Tensor, options=options) -> Tensor:
            generator.manual_seed(torch_seed("attack", evaluator.seed, distributed.rank(), batch))
            return attack(evaluator.network, images, labels, **options, generator=generator)

        errors[f"{name}_error"] = evaluator.errors(name, perturb, variant=json.dumps(dict(settings)))[0]
    return errors


def check_evaluation(batch_size: int, attacks: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise `InputError`, before hours of training, if these settings cannot work."""
    require_whole("test_batch_size", batch_size, least=1)
    for name, settings in attacks.items():
        attack_options(name, settings)
