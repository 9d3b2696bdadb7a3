"""The training loop. An epoch is mixed batches, an evaluation, a line in the log, and a checkpoint."""

from collections.abc import Callable
from contextlib import closing
from math import inf
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import get_total_norm

from puzzlemix.evaluation.evaluator import Evaluator, clean_errors
from puzzlemix.mixing import Mixer
from puzzlemix.mixing.losses import LOSSES
from puzzlemix.runtime import distributed, preemption
from puzzlemix.runtime.errors import InputError, PreemptedError, RunError, require
from puzzlemix.runtime.seeding import seed_global_streams
from puzzlemix.runtime.stopwatch import PARTS
from puzzlemix.training.log import RunLog
from puzzlemix.training.precision import Arithmetic
from puzzlemix.training.progress import ProgressBar
from puzzlemix.training.recipe import Recipe
from puzzlemix.training.state import RunState


class Trainer:
    """Trains one network with one method, from a checkpoint if there is one.

    Args:
        network: on its device.
        mixer: any method.
        data: a dataset of `puzzlemix.data`, loaded onto the same device.
        recipe: the epochs, the learning rate, the loss and other settings.
        log: the run's folder.

    Raises:
        InputError: the recipe does not fit the data or the processes, or the checkpoint is not this run's.
    """

    def __init__(self, network: nn.Module, mixer: Mixer, data: Any, recipe: Recipe, log: RunLog):
        self.network, self.mixer, self.data, self.recipe, self.log = network, mixer, data, recipe, log
        self._check_recipe()
        self.seed, self.log_every = log.config["seed"], log.config["log_every"]
        self.arithmetic = Arithmetic.from_config(log.config)
        self.arithmetic.prepare(network)
        self.optimizer = recipe.optimizer(network, self.arithmetic.fused)
        self.criterion = LOSSES[recipe.loss]
        self.evaluator = Evaluator(network, data, log.config["test_batch_size"])
        self.model = network if distributed.world_size() == 1 else DistributedDataParallel(network)
        self.state = RunState(network, self.optimizer, mixer, log)
        log.take_folder()
        self.state.restore()  # after DDP, which gives all processes the first one's batch norm statistics

    def train(self, after_epoch: Callable[[], None] = lambda: None) -> None:
        """Train to the recipe's last epoch.

        Args:
            after_epoch: called after each epoch, when it is evaluated, logged and saved.

        Raises:
            RunError: the training cannot go on; the last good checkpoint is kept.
            PreemptedError: a signal asked the program to stop, and the state is saved.
        """
        state, epochs = self.state, self.recipe.epochs
        name, epochs_done = (
            f"{self.log.config['name']} seed {self.seed}",
            state.epoch + state.steps_done / self._steps(),
        )
        with preemption.deferred(), ProgressBar(name, epochs, epochs_done) as bar:
            preemption.stop_if_asked()
            self.log.start()
            try:
                while state.epoch < epochs:
                    self.train_epoch(bar)
                    with state.stopwatch("evaluation"):
                        distributed.share_buffers(self.network)
                        self._check_weights()
                        evaluates = self.recipe.evaluates_after(state.epoch)
                        errors = clean_errors(self.evaluator) if evaluates else {}  # in percent
                    self.log.write_epoch({**self._record(), **errors, "seconds": self._seconds()})
                    bar.show_epoch(self.log.records[-1])
                    state.begin_next_epoch()
                    state.save()
                    after_epoch()
            except InputError as error:  # perhaps in one process only: every process prints a RunError
                raise RunError(str(error)) from error
            except PreemptedError as stop:
                self._check_finite()
                self._check_weights()
                state.save()
                raise PreemptedError(
                    f"asked to stop: {self.log.checkpoint_path} is of epoch {state.epoch} after {state.steps_done} "
                    "steps, and the same command goes on from it"
                ) from stop

    def train_epoch(self, bar: ProgressBar) -> None:
        """Train on all images once, from the step that the run has reached.

        Seed, epoch and step determine what is random in a step, so a run goes on as if nothing had interrupted it.
        """
        state, recipe, epoch, part = self.state, self.recipe, self.state.epoch, self.state.stopwatch
        if state.steps_done == 0:
            seed_global_streams("training", self.seed, epoch, distributed.rank())
        self.mixer.epoch = epoch
        self.model.train()
        batch_size, steps = recipe.batch_size_at(epoch), self._steps()
        view = recipe.view_at(epoch)
        batches = self.data.train_batches(batch_size, recipe.drop_last, self.seed, epoch, state.steps_done, **view)

        with closing(batches):  # its readers would outlive an error
            for step in range(state.steps_done, steps):
                # ---------------------------------------------------------------------------------- one training step
                with part("data"):
                    images, labels = next(batches)  # (B, C, H, W) in [0, 1], (B,)
                self.mixer.draws.seed(self.seed, epoch, step)
                for group in self.optimizer.param_groups:
                    group["lr"] = self._lr_of(step + 1)
                self.optimizer.zero_grad()

                with self.arithmetic.reduced(state.device):
                    with part("mixing"):
                        mixed, targets = self.mixer(self.model, images, labels)  # (V B, C, H, W), (B, K)
                    with part("network"):
                        logits = self.model(mixed)  # (V B, K)
                        loss = self.mixer.loss(self.criterion, logits, targets)  # ()
                        loss.backward()
                with part("optimizer"):
                    largest = get_total_norm([p.grad for p in self.network.parameters() if p.grad is not None], inf)
                    self.optimizer.step()
                # -----------------------------------------------------------------------------------------------------
                state.steps_done += 1
                state.sums.add(state.steps_done, loss, largest, logits, targets)
                if state.steps_done % self.log_every == 0 or state.steps_done == steps:
                    self._check_finite()  # waits for the GPU
                    bar.show_step(epoch + state.steps_done / steps, loss)
                preemption.stop_if_asked()

    def _lr_of(self, step: int) -> float:
        """The learning rate of a step of the epoch under way, counted from 1."""
        return self.recipe.lr_at(self.state.epoch + (step - 1) / self._steps())

    def _steps(self) -> int:
        """The number of steps of the epoch under way."""
        return self.data.steps(self.recipe.batch_size_at(self.state.epoch), self.recipe.drop_last)

    def _check_recipe(self) -> None:
        """Raise `InputError`, before anything is written, if the recipe's batches or views do not fit the data."""
        processes = distributed.world_size()
        for batch_size in {self.recipe.batch_size_at(epoch) for epoch in range(self.recipe.epochs)}:
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

    def _check_finite(self) -> None:
        """Raise `RunError` if a loss or a gradient of this epoch was not finite."""
        step = self.state.sums.first_broken_step()
        if step > 0:
            where = f"step {step} of epoch {self.state.epoch}, learning rate {self._lr_of(step):g}"
            raise self._diverged(f"the loss or a gradient is not finite in {where}")

    def _check_weights(self) -> None:
        """Raise `RunError` on all processes if the weights are not finite on any: the last step can do this."""
        tensors = [t for t in self.network.state_dict().values() if t.is_floating_point()]
        finite = bool(torch.stack([t.isfinite().all() for t in tensors]).all())
        if distributed.any_process(not finite):
            state = self.state
            raise self._diverged(f"weights are not finite after step {state.steps_done} of epoch {state.epoch}")

    def _diverged(self, what: str) -> RunError:
        checkpoints = self.log.checkpoint_path, self.log.previous_checkpoint_path
        last = next((path for path in checkpoints if path.is_file()), None)
        kept = f"{last} is the last good checkpoint" if last else "no epoch was finished"
        return RunError(f"{what}; {kept}: start again with a lower recipe.lr and another name=")

    def _record(self) -> dict[str, Any]:
        """The part of an epoch's record that training fills."""
        state, lr = self.state, self._lr_of(self.state.steps_done)
        return {"epoch": state.epoch, "lr": lr, **state.sums.means(), **self.mixer.pop_counts()}

    def _seconds(self) -> dict[str, float]:
        """Seconds of this epoch by part; a method without a saliency pass spends 0 on it."""
        spans = self.state.stopwatch.pop()
        parts = {part: spans.get(part, 0.0) for part in PARTS}
        return {**parts, "total": sum(parts.values())}
