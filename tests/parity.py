"""Twenty steps of training by each method, step by step: by two processes in `two_processes.py`, and by one."""

import json

import torch
from test_experiments import compose
from torch import nn

from puzzlemix.cli.config import build, plain
from puzzlemix.mixing.draws import Draws
from puzzlemix.runtime import distributed
from puzzlemix.runtime.seeding import numpy_stream
from puzzlemix.training.log import RunLog
from puzzlemix.training.loop import Trainer

METHODS = {
    "vanilla": ("mixup=vanilla",),
    "input": ("mixup=input",),
    "cutmix": ("mixup=cutmix",),
    "manifold": ("mixup=manifold",),
    "puzzlemix": ("mixup=puzzlemix",),
    "puzzlemix_clean": ("mixup=puzzlemix", "mixup.clean_lam=1.0"),
    "puzzlemix_adversarial": ("mixup=puzzlemix_adversarial", "mixup.adv_p=0.5"),
    "pgd_training": ("mixup=pgd_training", "mixup.steps=2"),
    "puzzlemix_pgd": ("mixup=puzzlemix_pgd", "mixup.adv_steps=2"),
}
# Nine batches of 24 images and one of 4, of all processes together.
TWO_EPOCHS_OF_TEN_STEPS = (
    *("dataset.train_per_class=22", "recipe.batch_size=24", "recipe.epochs=2"),
    *("recipe.schedule=steps", "recipe.loss=bce_on_softmax"),
)
WITHOUT_BATCH_NORM = ("network._target_=parity.PlainNetwork", "recipe.lr=0.2")


class PlainNetwork(nn.Module):
    """Two stages without batch norm, on images of 32 x 32 pixels."""

    def __init__(self, num_classes, **_):
        super().__init__()
        self.layer1 = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.layer2 = nn.Conv2d(16, 16, 3, stride=2, padding=1)
        self.linear = nn.Linear(16 * 8 * 8, num_classes)

    def forward(self, pixels):
        hidden = torch.relu(self.layer2(torch.relu(self.layer1(pixels))))
        return self.linear(hidden.flatten(1))


class DrawsOfTwo(Draws):
    """What two processes draw, each for its places in the batch, put together for one process that has it whole."""

    def seed(self, *entropy):
        super().seed(*entropy)
        self.own = [numpy_stream("own draws", *entropy, rank) for rank in range(2)]

    def permutation(self, length, device):
        partner = torch.empty(length, dtype=torch.int64, device=device)
        for rank, own in enumerate(self.own):
            partner[rank::2] = rank + 2 * torch.from_numpy(own.permutation(length // 2))
        return partner

    def uniform_like(self, images, low, high):
        noise = torch.empty_like(images)
        for rank, own in enumerate(self.own):
            generator = torch.Generator().manual_seed(int(own.integers(2**63)))
            noise[rank::2] = torch.empty_like(noise[rank::2]).uniform_(low, high, generator=generator)
        return noise


def train(folder, overrides, draws=None):
    """The mean loss of each step's images, of all processes together, and the log.

    Args:
        folder: for the run.
        overrides: of the config.
        draws: in place of the mixer's.
    """
    config = plain(compose(*TWO_EPOCHS_OF_TEN_STEPS, *overrides, f"results_dir={folder}", "name=run"))
    data, network, mixer, recipe = build(config)
    mixer.draws = draws or mixer.draws
    data.load(torch.device("cpu"))
    log, losses = RunLog(config), []
    trainer = Trainer(network, mixer, data, recipe, log)
    criterion = trainer.criterion

    def recorded(logits, targets):
        losses.append(criterion(logits, targets))
        return losses[-1]

    trainer.criterion = recorded
    trainer.train()
    means = distributed.sum_over_processes(torch.stack(losses).detach().double()) / distributed.world_size()
    return means.tolist(), log.records


def train_all(folder):
    """A run of each method, and `losses.json` with the losses and the log of each, in this folder."""
    runs = {method: train(folder / method, (*WITHOUT_BATCH_NORM, *options)) for method, options in METHODS.items()}
    runs["batch_norm"] = train(folder / "batch_norm", ())
    if distributed.is_main():
        (folder / "losses.json").write_text(json.dumps(runs))
