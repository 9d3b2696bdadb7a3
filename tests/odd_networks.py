"""Networks that draw, stop or wait while they train, named as `network._target_` by runs in processes of their own."""

import os
import random
import signal
import time
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import nn

from puzzlemix.networks import preactresnet18


class NoisyNetwork(nn.Module):
    """One layer, whose scores shake by Python's, NumPy's and PyTorch's own generators while it trains."""

    def __init__(self, **_):
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, 10)

    def forward(self, pixels):
        noise = random.random() + np.random.random() + torch.rand(()) if self.training else 0
        return self.linear(pixels.flatten(1)) * (1 + noise)


def asked_to_stop(**options):
    """A network whose process gets SIGUSR2 in its third batch, unless the file named by `ASKED_TO_STOP` is there."""

    def ask():
        asked = Path(os.environ["ASKED_TO_STOP"])
        if not asked.exists():
            asked.touch()
            os.kill(os.getpid(), signal.SIGUSR2)

    return _at_batch(3, ask, **options)


def held(**options):
    """A network that waits in its 25th batch until the file named by `LET_GO` is there.

    A run of Puzzle Mix with ten steps an epoch, of two batches each, is in its second epoch then, and has saved.
    """

    def hold():
        while not Path(os.environ["LET_GO"]).exists():
            time.sleep(0.01)

    return _at_batch(25, hold, **options)


def _at_batch(number, act, **options):
    network, batches = preactresnet18(**options), count(1)

    def act_then(module, _):
        if module.training and next(batches) == number:
            act()

    network.register_forward_pre_hook(act_then)
    return network
