"""The training loop: an epoch is mixed batches, an evaluation, a line in the log, a checkpoint."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from puzzlemix import distributed
from puzzlemix.checkpoint import load_checkpoint, load_weights, save_checkpoint
from puzzlemix.errors import InputError, RunError, require
from puzzlemix.evaluation import clean_errors
from puzzlemix.losses import LOSSES
from puzzlemix.mixing import Mixer
from puzzlemix.recipe import Recipe
from puzzlemix.runlog import RunLog
from puzzlemix.stopwatch import Stopwatch
from puzzlemix.streams import torch_seed

BAR_FORMAT = "{desc}: {percentage:.1f} % |{bar}| {elapsed}, {remaining} left{postfix}"
LOSS_READ_STEPS = 50  # steps between two looks at the loss, for which a GPU has to be waited for


class Trainer:
    """Trains one network with one method, from a checkpoint where there is one.

    Args:
        network: on its device.
        mixer: any method.
        data: a dataset of `puzzlemix.data`, loaded onto the same device.
        recipe: how long, how fast, which loss.
        log: the run's folder.

    Raises:
        InputError: the recipe does not fit the data or the processes, or the checkpoint is not this run's.
    """

    def __init__(self, network: nn.Module, mixer: Mixer, data: Any, recipe: Recipe, log: RunLog):
        self.network, self.mixer, self.data, self.recipe, self.log = network, mixer, data, recipe, log
        self._check_recipe()
        self.device = next(network.parameters()).device
        self.seed = log.config["seed"]
        self.optimizer = recipe.optimizer(network)
        self.criterion = LOSSES[recipe.loss]
        self.first_epoch = self._restore()
        one = distributed.world_size() == 1
        self.model = network if one else DistributedDataParallel(network)
        self.stopwatch = mixer.stopwatch = Stopwatch(self.device)

    def train(self) -> None:
        """Train to the recipe's last epoch.

        Raises:
            RunError: it cannot go on; the last good checkpoint is kept.
        """
        self.log.start(self.first_epoch)
        quiet = None if distributed.is_main() else True  # None: silent unless on a terminal
        name = f"{self.log.config['name']} seed {self.seed}"
        total, done = self.recipe.epochs, self.first_epoch
        with tqdm(total=total, initial=done, desc=name, bar_format=BAR_FORMAT, disable=quiet) as bar:
            for epoch in range(self.first_epoch, self.recipe.epochs):
                try:
                    record = self.train_epoch(epoch, bar)
                except InputError as error:  # met by one process alone, so that one has to tell
                    raise RunError(str(error)) from error
                with self.stopwatch("evaluation"):
                    distributed.share_buffers(self.network)
                    self._check_weights(epoch)
                    errors = clean_errors(self.network, self.data, self.log.config["test_batch_size"])
                record |= {**errors, "seconds": self._seconds(), **self.mixer.pop_counts()}
                self.log.write_epoch(record)  # before the checkpoint: a line too many is dropped on resuming
                self._save(epoch + 1)
                bar.set_description_str(f"{name}, error {errors['top1_error']:.2f} %")

    def train_epoch(self, epoch: int, bar: tqdm) -> dict[str, Any]:
        """One pass over the training images. Returns the epoch's record for the log."""
        # Order, augmentation and draws follow from seed and epoch alone: a resumed run goes on as if never interrupted.
        torch.manual_seed(torch_seed("training", self.seed, epoch))
        self.mixer.draws.seed(self.seed, epoch)
        self.mixer.epoch = epoch
        self.model.train()
        batch_size, view = self.recipe.batch_size_at(epoch), self.recipe.view_at(epoch)
        steps = self.data.steps(batch_size, self.recipe.drop_last)
        batches = self.data.train_batches(batch_size, self.recipe.drop_last, self.seed, epoch, **view)
        sums = torch.zeros(2, device=self.device, dtype=torch.float64)  # of the images' losses, of right answers
        images_seen, read_step, read_s = 0, 0, time.perf_counter()

        for step in range(1, steps + 1):
            with self.stopwatch("data"):
                images, labels = next(batches)
            lr = self.recipe.lr_at(epoch + (step - 1) / steps)
            for group in self.optimizer.param_groups:
                group["lr"] = lr

            # ------------------------------------------------------------------ one step
            self.optimizer.zero_grad()  # before mixing, which may leave gradients behind (clean_lam > 0)
            with self.stopwatch("mixing"):
                mixed, targets = self.mixer(self.model, images, labels)  # (B, C, H, W), (B, K)
            with self.stopwatch("network"):
                logits = self.model(mixed)  # (B, K)
                loss = self.criterion(logits, targets)
                loss.backward()
                self.optimizer.step()
            # ---------------------------------------------------------------------------

            images_seen += len(labels)
            with torch.no_grad():
                right = targets.gather(1, logits.argmax(1, keepdim=True)).sum()  # by the share of the label that is hit
                sums += torch.stack([loss.double() * len(labels), right.double()])
            if step % LOSS_READ_STEPS == 0 or step == steps:
                self._check_loss(float(sums[0]), epoch, step, lr)  # waits for the GPU
                now_s = time.perf_counter()
                rate = (step - read_step) * batch_size / (now_s - read_s)
                bar.set_postfix_str(f"loss {loss.item():.4f}, {rate:.0f} images/s", refresh=False)
                bar.update((step - read_step) / steps)
                read_step, read_s = step, now_s

        sums = torch.cat([sums, sums.new_tensor([images_seen])])
        loss_sum, right_sum, images_seen = distributed.sum_over_processes(sums).tolist()
        return {
            "epoch": epoch,
            "lr": lr,
            "train_loss": loss_sum / images_seen,
            "train_accuracy": 100 * right_sum / images_seen,
            "images": int(images_seen),
        }

    def _check_recipe(self) -> None:
        """Raise `InputError`, before anything is written, on batches that an epoch cannot be made of."""
        processes = distributed.world_size()
        for batch_size in self.recipe.batch_sizes:
            require(
                batch_size % processes == 0 and batch_size // processes >= 2,
                f"a batch of {batch_size} does not give each of {processes} processes an equal share of 2 or more: "
                "change recipe.batch_size or --nproc-per-node",
            )
            require(
                self.data.steps(batch_size, self.recipe.drop_last) >= 1,
                f"{self.data.name} has too few training images for a batch of {batch_size}: lower recipe.batch_size",
            )
        for phase in self.recipe.phases:
            self.data.check_view(**phase.get("view", {}))

    def _check_loss(self, loss_sum: float, epoch: int, step: int, lr: float) -> None:
        if not math.isfinite(loss_sum):
            raise self._diverged(f"the loss is not finite by step {step} of epoch {epoch}, learning rate {lr:g}")

    def _check_weights(self, epoch: int) -> None:
        """The last step's effect shows in no loss: look at what would be saved, alike on all processes."""
        tensors = [t for t in self.network.state_dict().values() if t.is_floating_point()]
        if not torch.stack([t.isfinite().all() for t in tensors]).all():
            raise self._diverged(f"weights are not finite at the end of epoch {epoch}")

    def _diverged(self, what: str) -> RunError:
        last = self.log.checkpoint_path
        kept = f"{last} is the last good checkpoint" if last.is_file() else "no epoch was finished"
        return RunError(f"{what}; {kept}: start again with a lower recipe.lr and another name=")

    def _seconds(self) -> dict[str, float]:
        """Seconds of this epoch by part; a method without a saliency pass spends 0 on it."""
        spans = self.stopwatch.pop()
        parts = {part: spans.get(part, 0.0) for part in ("data", "saliency", "mixing", "network", "evaluation")}
        return {**parts, "total": sum(parts.values())}

    def _save(self, epochs_done: int) -> None:
        if distributed.is_main():
            content = {
                "config": self.log.config,
                "epoch": epochs_done,
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
            save_checkpoint(self.log.checkpoint_path, content)
        distributed.wait_for_all()

    def _restore(self) -> int:
        """Go on from the run's checkpoint, if it has one; returns the first epoch to train."""
        path = self.log.checkpoint_path
        if not path.is_file():
            return 0
        content = load_checkpoint(path)
        self.log.check_config(content["config"], path)
        require(
            {"optimizer", "epoch"} <= set(content),
            f"{path} holds weights alone, as kept in models/: a run cannot go on from it, delete it to train anew",
        )
        load_weights(self.network, content["network"], path)
        self.optimizer.load_state_dict(content["optimizer"])
        return content["epoch"]
