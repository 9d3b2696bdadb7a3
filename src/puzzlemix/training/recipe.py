"""The recipe of a training: everything of a run that is neither data, nor network, nor mixing method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import cos, pi
from typing import Any

import torch
from torch import nn

from puzzlemix.mixing.losses import LOSSES
from puzzlemix.runtime.errors import require, require_choice, require_number, require_whole


@dataclass(frozen=True)
class Recipe:
    """A recipe of `configs/recipe/`.

    The learning rate is `lr`, times `lr_factor` from each milestone on. With `schedule="cosine"` it falls from `lr` to
    0 along half a cosine (Loshchilov and Hutter, 2017, without restarts). With `phases` it is `lr` times a factor,
    interpolated linearly between the phase's `lr_points`, pairs (epoch, factor). Cosine and phases change it at every
    step. Each phase has `until_epoch` and `lr_points`; it may have a `batch_size`, and a `view`: how images are cut.
    """

    epochs: int
    batch_size: int  # images of all processes together
    lr: float
    schedule: str = "steps"
    lr_milestones_epochs: Sequence[int] = ()
    lr_factor: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    decay_batch_norm: bool = True  # whether weight decay also acts on the scales and shifts of batch norm
    loss: str = "bce_on_softmax"
    drop_last: bool = False  # leave out an incomplete last batch
    evaluate_every_epochs: int = 1  # in the epochs before the last ten; more than 1 saves time if epochs are short
    phases: Sequence[Mapping[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        require_whole("recipe.epochs", self.epochs, least=1)
        require(
            self.batch_size >= 2,
            f"recipe.batch_size must be at least 2, not {self.batch_size}: an image is mixed with a partner",
        )
        require(self.lr > 0, f"recipe.lr must be above 0, not {self.lr}")
        require(self.lr_factor > 0, f"recipe.lr_factor must be above 0, not {self.lr_factor}")
        require_number("recipe.weight_decay", self.weight_decay)
        require(0 <= self.momentum < 1, f"recipe.momentum must lie in [0, 1), not {self.momentum}")
        require(self.momentum > 0 or not self.nesterov, "recipe.nesterov needs momentum: set recipe.nesterov=false")
        require_choice("recipe.loss", self.loss, LOSSES)
        require_whole("recipe.evaluate_every_epochs", self.evaluate_every_epochs, least=1)
        require_choice("recipe.schedule", self.schedule, ("steps", "cosine"))
        for key in ("lr_milestones_epochs", "phases"):
            fits = self.schedule == "steps" or not getattr(self, key)
            require(fits, f"recipe.schedule={self.schedule} has no recipe.{key}: add 'recipe.{key}=[]'")
        for milestone in self.lr_milestones_epochs:
            require_number("each of recipe.lr_milestones_epochs", milestone)
        ends = [phase["until_epoch"] for phase in self.phases]
        require(ends == sorted(ends), f"the phases of a recipe must be in the order of their until_epoch, not {ends}")
        require(
            not ends or ends[-1] >= self.epochs, f"the phases end at epoch {ends[-1:]}, recipe.epochs is {self.epochs}"
        )

    def phase(self, epoch: float) -> Mapping[str, Any]:
        """The phase that an epoch lies in; empty if the recipe has none."""
        return next((phase for phase in self.phases if epoch < phase["until_epoch"]), {})

    def batch_size_at(self, epoch: int) -> int:
        """The batch size in this epoch, of all processes together."""
        return self.phase(epoch).get("batch_size", self.batch_size)

    def view_at(self, epoch: int) -> Mapping[str, Any]:
        """How training images are cut in this epoch; empty for the dataset's default."""
        return self.phase(epoch).get("view", {})

    def evaluates_after(self, epoch: int) -> bool:
        """Whether the network is evaluated after this epoch, counted from 0; `median10` needs the last ten."""
        return (epoch + 1) % self.evaluate_every_epochs == 0 or epoch >= self.epochs - 10

    def lr_at(self, epoch: float) -> float:
        """The learning rate at a point of training, in epochs from 0."""
        if self.schedule == "cosine":
            return self.lr * (1 + cos(pi * epoch / self.epochs)) / 2
        if not self.phases:
            return self.lr * self.lr_factor ** sum(epoch >= milestone for milestone in self.lr_milestones_epochs)
        points = self.phase(epoch)["lr_points"]
        for (start, low), (end, high) in pairwise(points):
            if epoch < end:
                return self.lr * (low + (high - low) * (epoch - start) / (end - start))
        return self.lr * points[-1][1]

    def optimizer(self, network: nn.Module, fused: bool = False) -> torch.optim.SGD:
        """SGD over all parameters of the network; `fused` updates them in one kernel."""
        norms = (module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
        undecayed = set() if self.decay_batch_norm else {p for norm in norms for p in norm.parameters()}
        groups = [
            {"params": [p for p in network.parameters() if p not in undecayed], "weight_decay": self.weight_decay},
            {"params": [p for p in network.parameters() if p in undecayed], "weight_decay": 0.0},
        ]
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, fused=fused)
