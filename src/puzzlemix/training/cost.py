"""What a training would cost on this machine: its steps are counted, and some of them are measured."""

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from puzzlemix.mixing import Mixer
from puzzlemix.mixing.losses import LOSSES
from puzzlemix.runtime.stopwatch import now_s
from puzzlemix.training.precision import Arithmetic
from puzzlemix.training.recipe import Recipe

STEPS = 20  # steps of each kind to measure, after one to warm up
MOST_S = 60.0  # no further step of a kind begins after this time
MOST_ON_CPU = 32  # images in a measured batch on a CPU, where time is proportional to images


class Cost(NamedTuple):
    """The cost of one run on one process, without reading images and without attacks."""

    steps: int
    training_s: float
    evaluations_s: float

    @property
    def hours(self) -> float:
        """Hours of training and evaluation."""
        return (self.training_s + self.evaluations_s) / 3600


def cost_of(
    network: nn.Module, mixer: Mixer, data: Any, recipe: Recipe, config: Mapping[str, Any], device: torch.device
) -> Cost:
    """Measure training steps and an evaluation on random images, and multiply by the numbers of the recipe.

    Args:
        network, mixer, data, recipe: the parts of a run; data whose numbers of images are in the config need not be
            on disk.
        config: the run's config.
        device: the device to measure on.

    Raises:
        InputError: the config does not say how many images there are, and the data is not on disk.
    """
    if None in data.expected_images.values():
        data.load(device)
    else:
        data.train_count, data.test_count = data.expected_images.values()
    network.to(device)
    arithmetic = Arithmetic.from_config(config)
    arithmetic.prepare(network)
    optimizer = recipe.optimizer(network, arithmetic.fused)

    def train(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        with arithmetic.reduced(device):
            mixed, targets = mixer(network, images, labels)
            mixer.loss(LOSSES[recipe.loss], network(mixed), targets).backward()
        optimizer.step()

    @torch.no_grad()
    def evaluate(images: Tensor, labels: Tensor) -> None:
        network(images)

    kinds: Counter[tuple[int, tuple[int, int]]] = Counter()  # steps by batch size and size of the images
    for epoch in range(recipe.epochs):
        batch_size, crop = recipe.batch_size_at(epoch), recipe.view_at(epoch).get("crop_pixels")
        kinds[batch_size, (crop, crop) if crop else data.image_size] += data.steps(batch_size, recipe.drop_last)
    network.train()
    training_s = sum(steps * _seconds(train, batch, size, data, device) for (batch, size), steps in kinds.items())
    network.eval()
    batch = config["test_batch_size"]
    evaluations = sum(recipe.evaluates_after(epoch) for epoch in range(recipe.epochs))
    evaluation_s = data.test_count / batch * _seconds(evaluate, batch, data.image_size, data, device)
    return Cost(kinds.total(), training_s, evaluations * evaluation_s)


def _seconds(
    work: Callable[[Tensor, Tensor], None], batch: int, size: tuple[int, int], data: Any, device: torch.device
) -> float:
    """Seconds that the work takes on a batch of random images, the median of up to `STEPS` times."""
    measured = min(batch, MOST_ON_CPU) if device.type == "cpu" else batch
    images = torch.rand(measured, len(data.mean), *size, device=device)
    labels = torch.randint(data.num_classes, (measured,), device=device)

    ends_s = [now_s(device)]  # of no step, of the one to warm up, then of each measured one
    while len(ends_s) <= STEPS + 1 and (len(ends_s) <= 2 or ends_s[-1] - ends_s[1] < MOST_S):
        work(images, labels)
        ends_s.append(now_s(device))
    return median(end - start for start, end in pairwise(ends_s[1:])) * batch / measured
