"""What changes while a run trains: all that a checkpoint holds, so that a run goes on as if it had never stopped."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from puzzlemix import distributed
from puzzlemix.checkpoint import as_input, load_newest, load_weights, save_checkpoint
from puzzlemix.epoch_sums import EpochSums
from puzzlemix.errors import require
from puzzlemix.mixing import Mixer
from puzzlemix.runlog import RunLog
from puzzlemix.settings import fingerprint
from puzzlemix.stopwatch import Stopwatch
from puzzlemix.streams import global_streams, restore_global_streams


class RunState:
    """A run at a point of its training, and its checkpoints, `last.pt` and, in case that is damaged, `previous.pt`.

    The order of the images, their augmentation, what mixers draw, and the learning rate are not in it: they follow from
    the seed, the epoch and the step. Nor is a gradient scaler: bf16 needs none. The best epoch and the last ten are
    lines of the log, which is.

    Args:
        network: on its device.
        optimizer: of the network's parameters.
        mixer: whose counts belong to it.
        log: of the epochs so far.

    Attributes:
        epoch: the one under way, from 0.
        steps_done: of that epoch.
        sums: of those steps.
        stopwatch: of those steps.
    """

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer, mixer: Mixer, log: RunLog):
        self.network, self.optimizer, self.mixer, self.log = network, optimizer, mixer, log
        self.device = next(network.parameters()).device
        self.epoch, self.steps_done, self.sums = 0, 0, EpochSums(self.device)
        self.stopwatch = mixer.stopwatch = Stopwatch(self.device)

    def begin_next_epoch(self) -> None:
        self.epoch, self.steps_done, self.sums = self.epoch + 1, 0, EpochSums(self.device)

    def save(self) -> None:
        """Write the checkpoint; every process takes part.

        Raises:
            RunError: it cannot be written; the checkpoints are as they were.
        """
        processes = distributed.gather(self._of_this_process())
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
        """Go on from the newest checkpoint that is whole, if there is one; of newer ones that are damaged, warn.

        Raises:
            InputError: it is of another config, or all are damaged.
        """
        # The first process reads for all: other machines need not see the folder.
        content = distributed.from_first_process(self._load() if distributed.is_main() else None)
        if content is None:
            return
        path = self.log.checkpoint_path
        load_weights(self.network, content["network"], path)
        with as_input(path):
            self._restore_optimizer(content["optimizer"])
            self.epoch, self.steps_done = int(content["epoch"]), int(content["steps_done"])
            self.log.records = list(content["log"])
            self._restore_this_process(content["processes"])

    def _load(self) -> dict[str, Any] | None:
        loaded = load_newest([self.log.checkpoint_path, self.log.previous_checkpoint_path])
        if loaded is None:
            return None
        path, content = loaded.path, loaded.content
        self.log.check_config(content["config"], path)
        require(
            "optimizer" in content,
            f"{path} holds weights alone, as kept in models/: a run cannot go on from it, delete it to train anew",
        )
        for damaged in loaded.damaged:
            aside = damaged.with_suffix(".damaged")
            sys.stderr.write(f"warning: {damaged} is damaged: going on from {path}; it is now {aside.name}\n")
            damaged.replace(aside)  # or else the next save would make it the previous one, in place of the good one
        return content

    def _restore_optimizer(self, saved: dict[str, Any]) -> None:
        """With the settings of this start, and the layout of its weights, which a fused update takes for granted."""
        settings = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({**saved, "param_groups": settings})
        for weight, buffers in self.optimizer.state.items():
            for name, buffer in buffers.items():
                if isinstance(buffer, torch.Tensor) and buffer.shape == weight.shape:
                    buffers[name] = torch.empty_like(weight).copy_(buffer)

    def _of_this_process(self) -> dict[str, Any]:
        """What differs from process to process, on the CPU."""
        return {
            "sums": self.sums.values.cpu(),
            "counts": {name: int(count) for name, count in self.mixer.counts.items()},
            "seconds": self.stopwatch.pop(),
            "streams": global_streams(self.device),
            "buffers": {name: buffer.cpu() for name, buffer in self.network.named_buffers()},  # of batch norm
        }

    def _restore_this_process(self, processes: Sequence[dict[str, Any]]) -> None:
        rank = distributed.rank()
        if len(processes) == distributed.world_size():
            own, summed = processes[rank], [processes[rank]]
        else:  # more or fewer than they were: the first takes over what all of them had summed up
            own, summed = processes[0], processes if rank == 0 else []
        for part in summed:
            self.sums.values += part["sums"].to(self.device)
        for name in own["counts"]:
            self.mixer.counts[name] = torch.tensor(sum(part["counts"][name] for part in summed), device=self.device)
        self.stopwatch.go_on_from(own["seconds"])
        restore_global_streams(own["streams"], self.device)
        for name, buffer in self.network.named_buffers():
            buffer.copy_(own["buffers"][name])
