"""All that tests want of two processes: run by torchrun from the fixture `two_processes` of `conftest.py`.

Its argument is the folder for what they draw, which gradient they come to, and runs of `scripts/train.py`. The second
process kills itself in one of them, so that torchrun starts both again; then it meets a damaged image, which ends both.
"""

import os
import shutil
import signal
import sys
from contextlib import redirect_stdout
from copy import deepcopy
from io import StringIO
from pathlib import Path

import parity
import pytest
import torch
import torch.nn.functional as F
from conftest import OF_TWO_PROCESSES, TINY, at_step, on_a_terminal, run_script
from pictures import write_class_folders
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from puzzlemix import CutMix, InputMixup, ManifoldMixup, Mixer, PuzzleMix
from puzzlemix.cli import script
from puzzlemix.evaluation.evaluator import Evaluator, Images
from puzzlemix.mixing.losses import bce_on_softmax
from puzzlemix.runtime import distributed, preemption
from puzzlemix.runtime.errors import PreemptedError
from puzzlemix.runtime.seeding import numpy_stream

CLASSES = 5
BATCH = 16  # of both processes together
STOPPED_AT, KILLED_AT = 4, 13  # steps, of ten an epoch


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


def static_graph(network):
    """DDP that counts, in its first step, how often each gradient is computed."""
    return DistributedDataParallel(network, static_graph=True)


def sharded(network):
    """FSDP2."""
    mesh = init_device_mesh("cpu", (distributed.world_size(),))
    for stage in (network.layer1, network.layer2):
        fully_shard(stage, mesh=mesh)
    return fully_shard(network, mesh=mesh)


WRAPPERS = {"static_graph": static_graph, "sharded": sharded}


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
    mixer = METHODS[method]()
    mixed, targets = mixer(model, images, labels, **given)
    mixer.loss(bce_on_softmax, model(mixed), targets).backward()
    found = {name: p.grad for name, p in distributed.unwrap(model).named_parameters()}
    return {name: g.full_tensor() if isinstance(g, DTensor) else g.clone() for name, g in found.items()}


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


def exchanged():
    """What this process draws, gradients with the other one and alone on the joined batch, counts, evaluations."""
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
    wrapped, given = {}, given_of("puzzle_clean", partner[own] - rank * half, noise[own])
    for name, wrap in WRAPPERS.items():
        model = wrap(deepcopy(network))
        steps = [gradients(model, "puzzle_clean", images[own], labels[own], given) for _ in range(2)]
        wrapped[name] = steps[1]
    mixer = Mixer(num_classes=CLASSES)
    mixer.count("seen", torch.tensor([True] * (rank + 1) + [False]))
    counts = mixer.pop_counts()
    evaluations = evaluated(network), evaluated(network, stop=True)
    found = {"draws": draws, "together": together, "alone": alone, "wrapped": wrapped, "counts": counts}
    return found | {"evaluations": evaluations}


def trained(folder, *overrides, at=None):
    """Train with both processes; the status or the line with which this one ends, and what it prints.

    Args:
        folder: the run's.
        overrides: of the config.
        at: a step, and the signal that the second process gets in it.
    """
    status, printed = 0, StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(script, "WAIT_FOR_FIRST_S", 0.0)  # how long the other process waits, which torchrun would end
        if at is not None and distributed.rank() == 1:
            step, number = at
            at_step(patch, step, lambda: os.kill(os.getpid(), number))
        try:
            run_script(patch, "train", *overrides, f"results_dir={folder.parents[1]}", f"name={folder.parent.name}")
        except SystemExit as end:
            status = end.code
    return status, printed.getvalue()


def of_damaged_images(folder):
    """The arguments of a run on images of which one, that the second process is to read, is damaged."""
    if distributed.is_main():
        for split in ("train", "val"):
            write_class_folders(folder / "imagenet" / split, ["ant", "bee"], 4, (40, 40))
        second = numpy_stream("order", 0, 0).permutation(8)[1]
        damaged = sorted((folder / "imagenet" / "train").glob("*/*.JPEG"))[second]
        damaged.write_bytes(damaged.read_bytes()[:400])
        (folder / "damaged_image").write_text(str(damaged))
    distributed.wait_for_all()
    counts = ("num_classes=2", "train_images=null", "test_images=null", "image_size=[32,32]", "test_resize=32")
    data = ["dataset=imagenet", *(f"dataset.{count}" for count in counts), f"dataset.root={folder}"]
    return (
        *data,
        "network.initial_channels=4",
        "recipe.batch_size=8",
        "attack=none",
        "device=cpu",
        "dataset.workers=0",
    )


def first_start(folder):
    """All but what goes wrong, and then a run in which the second process is killed."""
    parity.train_all(folder / "parity")
    content = exchanged()
    with on_a_terminal() as shown:
        content["one_node"] = trained(folder / "one_node" / "seed0", *OF_TWO_PROCESSES)
    content["shown"] = shown[0]
    stopped = folder / "stopped" / "seed0"
    content["stopped"] = trained(stopped, *OF_TWO_PROCESSES, at=(STOPPED_AT, signal.SIGTERM))
    if distributed.is_main():
        shutil.copytree(stopped, folder / "stopped_early" / "seed0")
    content["went_on"] = trained(stopped, *OF_TWO_PROCESSES)
    content["odd_batch"] = trained(folder / "odd_batch" / "seed0", *TINY, "recipe.batch_size=21")
    torch.save(content, folder / f"rank{distributed.rank()}.pt")
    sys.exit(trained(folder / "killed" / "seed0", *OF_TWO_PROCESSES, at=(KILLED_AT, signal.SIGKILL))[0])


def second_start(folder):
    """The run goes on in which a process was killed; then one that cannot."""
    status, _ = trained(folder / "killed" / "seed0", *OF_TWO_PROCESSES)
    sys.exit(status or trained(folder / "damaged" / "seed0", *of_damaged_images(folder))[0])


if __name__ == "__main__":
    distributed.join("cpu")
    start = {"0": first_start, "1": second_start}[os.environ["TORCHELASTIC_RESTART_COUNT"]]
    start(Path(sys.argv[1]))
