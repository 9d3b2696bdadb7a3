"""The state of a run, which is all that changes while it trains, and the checkpoints from which it goes on exactly."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from puzzlemix.mixing import Mixer
from puzzlemix.runtime import distributed
from puzzlemix.runtime.checkpoint import as_input_error, load_newest, load_weights, save_checkpoint
from puzzlemix.runtime.errors import require
from puzzlemix.runtime.seeding import global_streams, restore_global_streams
from puzzlemix.runtime.stopwatch import Stopwatch
from puzzlemix.training.log import RunLog
from puzzlemix.training.settings import fingerprint


class EpochSums:
    """Sums over this process's steps of an epoch, on the training device, so that no step waits for a GPU.

    Attributes:
        values: (4,) float64: the sum of the images' losses, the number of right answers, the number of images, and the
            first step (from 1) with a loss or gradient that was not finite, or 0.
    """

    def __init__(self, device: torch.device):
        self.values = torch.zeros(4, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, step: int, loss: Tensor, gradient_norm: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a step.

        Args:
            step: its number, from 1.
            loss: mean over its images, ().
            gradient_norm: (), not finite if the gradient of any parameter is not.
            logits: (V B, K), of V views; only the first view counts.
            targets: (B, K); the share of the label that an answer hits counts as right.
        """
        answers = logits[: len(targets)].argmax(1, keepdim=True)  # (B, 1)
        right = targets.gather(1, answers).sum()
        is_broken = ~(loss.isfinite() & gradient_norm.isfinite())
        first_broken = torch.where(self.values[3] > 0, self.values[3], is_broken * step)
        self.values[:2] += torch.stack([loss.double() * len(targets), right.double()])
        self.values[2] += len(targets)
        self.values[3] = first_broken

    def first_broken_step(self) -> int:
        """The first step that was not finite, or 0. This waits for a GPU."""
        return int(self.values[3])

    def means(self) -> dict[str, float]:
        """Training loss, accuracy in percent and number of images, of all processes together."""
        loss, right, images = distributed.sum_over_processes(self.values[:3].clone()).tolist()
        return {"train_loss": loss / images, "train_accuracy": 100 * right / images, "images": int(images)}


class RunState:
    """A run at a point of its training, and its checkpoints `last.pt` and `previous.pt`.

    The order of the images, their augmentation, the mixer's draws and the learning rate are not in it: they follow from
    the seed, the epoch and the step. The mixer's counts and the log's records are in it.

    Attributes:
        epoch: the epoch under way, from 0.
        steps_done: the number of its steps that are done.
        sums: the sums over these steps.
        stopwatch: the seconds of these steps.
    """

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer, mixer: Mixer, log: RunLog):
        self.network, self.optimizer, self.mixer, self.log = network, optimizer, mixer, log
        self.device = next(network.parameters()).device
        self.epoch, self.steps_done, self.sums = 0, 0, EpochSums(self.device)
        self.stopwatch = mixer.stopwatch = Stopwatch(self.device)

    def begin_next_epoch(self) -> None:
        self.epoch, self.steps_done, self.sums = self.epoch + 1, 0, EpochSums(self.device)

    def save(self) -> None:
        """Write the checkpoint; every process calls this. Raises `RunError` if it cannot, and keeps the old ones."""
        processes = distributed.gather(self._part_of_this_process())
        if distributed.is_main():
            content = {
                "config": self.log.config,
                "config_hash": fingerprint(self.log.config),
                "epoch": self.epoch,
                "steps_done": self.steps_done,
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "log": self.log.records,
                "processes": processes,
            }
            save_checkpoint(self.log.checkpoint_path, content, self.log.previous_checkpoint_path)
        distributed.wait_for_all()

    def restore(self) -> None:
        """Go on from the newest whole checkpoint, if there is one. The first process reads it for all.

        Raises:
            InputError: it is of another config, or all checkpoints are damaged.
        """
        content = distributed.from_first_process(self._load() if distributed.is_main() else None)
        if content is None:
            return
        path = self.log.checkpoint_path
        load_weights(self.network, content["network"], path)
        with as_input_error(path):
            self._restore_optimizer(content["optimizer"])
            self.epoch, self.steps_done = int(content["epoch"]), int(content["steps_done"])
            self.log.records = list(content["log"])
            self._restore_this_process(content["processes"])

    def _load(self) -> dict[str, Any] | None:
        """The content of the newest whole checkpoint; None if there is none."""
        newest = load_newest([self.log.checkpoint_path, self.log.previous_checkpoint_path])
        if newest is None:
            return None
        path, content = newest
        self.log.check_config(content["config"], path)
        remedy = "a run cannot go on from it, delete it to train from the start"
        require("optimizer" in content, f"{path} holds weights alone, as kept in models/: {remedy}")
        return content

    def _restore_optimizer(self, saved: dict[str, Any]) -> None:
        """Restore momentum, but keep the settings and memory layout of this start: a fused update relies on them."""
        settings = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({**saved, "param_groups": settings})
        for weight, buffers in self.optimizer.state.items():
            for name, buffer in buffers.items():
                if isinstance(buffer, Tensor) and buffer.shape == weight.shape:
                    buffers[name] = torch.empty_like(weight).copy_(buffer)

    def _part_of_this_process(self) -> dict[str, Any]:
        """The part of the state that differs between processes, on the CPU."""
        return {
            "sums": self.sums.values.cpu(),
            "counts": {name: int(count) for name, count in self.mixer.counts.items()},
            "seconds": self.stopwatch.pop(),
            "streams": global_streams(self.device),
            "buffers": {name: buffer.cpu() for name, buffer in self.network.named_buffers()},  # buffers of batch norm
        }

    def _restore_this_process(self, processes: Sequence[dict[str, Any]]) -> None:
        rank = distributed.rank()
        if len(processes) == distributed.world_size():
            own, summed = processes[rank], [processes[rank]]
        else:  # the number of processes has changed: the first one takes the sums of all
            own, summed = processes[0], processes if rank == 0 else []
        for part in summed:
            self.sums.values += part["sums"].to(self.device)
        for name in own["counts"]:
            self.mixer.counts[name] = torch.tensor(sum(part["counts"][name] for part in summed), device=self.device)
        self.stopwatch.add(own["seconds"])
        restore_global_streams(own["streams"], self.device)
        for name, buffer in self.network.named_buffers():
            buffer.copy_(own["buffers"][name])
