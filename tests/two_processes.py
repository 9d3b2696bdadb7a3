"""What each of two processes draws and which gradient they come to: run by torchrun from `test_distributed.py`.

Its argument is the folder for `rank0.pt` and `rank1.pt`.
"""

import os
import signal
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from puzzlemix import CutMix, InputMixup, ManifoldMixup, Mixer, PuzzleMix
from puzzlemix.evaluation.evaluator import Evaluator, Images
from puzzlemix.mixing.losses import bce_on_softmax
from puzzlemix.runtime import distributed, preemption
from puzzlemix.runtime.errors import PreemptedError

CLASSES = 5
BATCH = 16  # of both processes together


class PlainNetwork(nn.Module):
    """Two stages without batch norm, so that the gradient of a batch is the mean of its parts' gradients."""

    def __init__(self):
        super().__init__()
        self.layer1 = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.layer2 = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.linear = nn.Linear(8, CLASSES)

    def forward(self, pixels):
        hidden = torch.tanh(self.layer2(torch.tanh(self.layer1(pixels))))
        return self.linear(hidden.mean((2, 3)))


METHODS = {
    "vanilla": lambda: Mixer(num_classes=CLASSES),
    "input": lambda: InputMixup(num_classes=CLASSES),
    "manifold": lambda: ManifoldMixup(num_classes=CLASSES),
    "cutmix": lambda: CutMix(num_classes=CLASSES),
    "puzzle": lambda: PuzzleMix(num_classes=CLASSES, t_size=4),
    "puzzle_clean": lambda: PuzzleMix(num_classes=CLASSES, clean_lam=1.0),
    "puzzle_adversarial": lambda: PuzzleMix(num_classes=CLASSES, adv_p=0.5),
}


def joined_batch():
    """Images, labels, partners within each half, and start noise of the batch of both processes."""
    generator = torch.Generator().manual_seed(0)
    images = F.interpolate(torch.rand(BATCH, 3, 8, 8, generator=generator), scale_factor=4, mode="bilinear")
    labels = torch.randint(CLASSES, (BATCH,), generator=generator)
    half = BATCH // 2
    partner = torch.cat([torch.randperm(half, generator=generator), half + torch.randperm(half, generator=generator)])
    noise = (torch.rand(images.shape, generator=generator) * 2 - 1) * 10 / 255
    return images, labels, partner, noise


def given_of(method, partner, noise):
    """Everything random in a batch."""
    given = {"lam": 0.4, "partner": partner}
    extra = {"vanilla": {}, "input": {}, "manifold": {"layer": 1}, "cutmix": {"centre": (9.5, 20.25)}}
    puzzle = {"blocks": 4, "noisy": (False, False)}
    adversarial = {"blocks": 4, "noisy": (True, False), "start_noise": noise, "noise_scale": 0.7}
    extra |= {"puzzle": puzzle, "puzzle_clean": puzzle, "puzzle_adversarial": adversarial}
    return given | extra[method] if method != "vanilla" else {}


def gradients(model, method, images, labels, given):
    """The parameter gradients after one step's backward passes."""
    model.zero_grad()
    mixed, targets = METHODS[method]()(model, images, labels, **given)
    bce_on_softmax(model(mixed), targets).backward()
    return {name: p.grad.clone() for name, p in distributed.unwrap(model).named_parameters()}


def drawn(method, steps=20):
    """What a mixer that nobody seeded draws in a few batches."""
    mixer = METHODS[method]()
    return [mixer.draw(torch.zeros(8, 3, 32, 32), {}) for _ in range(steps)]


def evaluated(network, stop=False):
    """The sum of five images' labels, and the batches that this process saw; rank 1 may get a signal in its first."""
    seen = []

    def read(shards):
        for shard in shards:
            yield torch.zeros(len(shard), 3, 8, 8), torch.tensor(list(shard))

    def measure(batch, images, labels):
        seen.append(labels.tolist())
        if stop and distributed.rank() == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        return labels.sum()[None]

    try:
        with preemption.answered():
            return Evaluator(network, None, 2).total("labels", 1, measure, Images(range(5), read)), seen
    except PreemptedError:
        return "stopped", seen


def main(folder):
    distributed.join("cpu")
    rank, half = distributed.rank(), BATCH // 2
    torch.manual_seed(rank)  # processes that are seeded apart still have to draw alike
    draws = {method: drawn(method) for method in METHODS}

    images, labels, partner, noise = joined_batch()
    torch.manual_seed(0)
    network = PlainNetwork()
    own = slice(rank * half, (rank + 1) * half)
    together, alone = {}, {}
    for method in METHODS:
        given = given_of(method, partner[own] - rank * half, noise[own])
        together[method] = gradients(DistributedDataParallel(network), method, images[own], labels[own], given)
        alone[method] = gradients(network, method, images, labels, given_of(method, partner, noise))
    mixer = Mixer(num_classes=CLASSES)
    mixer.count("seen", torch.tensor([True] * (rank + 1) + [False]))
    counts = mixer.pop_counts()
    evaluations = evaluated(network), evaluated(network, stop=True)
    content = {"draws": draws, "together": together, "alone": alone, "counts": counts, "evaluations": evaluations}
    torch.save(content, folder / f"rank{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
