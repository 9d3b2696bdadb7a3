"""Puzzle Mix in plain torch, Lightning, the Trainer of transformers, accelerate, ignite, fastai and timm.

    python examples/in_your_framework.py

trains a small network on scikit-learn's digits in each of them that is installed. Every function stands alone, so copy
one. All take the model, a loader of images and labels, and the mixer, `mix = puzzlemix.PuzzleMix(num_classes=10)`. The
images are pixels in [0, 1]. If yours are normalised, as those of timm and transformers are, give mean= and std= to the
mixer. `mix.loss` also adds the loss of `clean_lam`, which no framework knows about.
"""

from functools import partial
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

import puzzlemix


def with_torch(model, loader, mix, epochs=1):
    """bf16 autocast, the gradients of two batches in each step, and an exponential moving average of the weights."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for epoch in range(epochs):
        mix.draws.seed(0, epoch)  # the same draws when a program resumes
        for step, (images, labels) in enumerate(loader, 1):
            with torch.autocast(images.device.type, torch.bfloat16):
                mixed, targets = mix(model, images, labels)
                loss = mix.loss(F.cross_entropy, model(mixed), targets)
            (loss / 2).backward()
            if step % 2 == 0:
                optimizer.step()
                optimizer.zero_grad()
                average.update_parameters(model)
    return average


def with_lightning(model, loader, mix, epochs=1):
    import lightning

    class Mixing(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = model

        def on_train_epoch_start(self):
            mix.draws.seed(0, self.current_epoch)

        def training_step(self, batch, batch_idx):
            images, labels = batch
            mixed, targets = mix(self.model, images, labels)
            return mix.loss(F.cross_entropy, self.model(mixed), targets)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = lightning.Trainer(max_epochs=epochs, accumulate_grad_batches=2, **off)
    trainer.fit(Mixing(), loader)
    return trainer


def with_transformers(model, dataset, mix, arguments):
    """The dataset has dicts of `pixel_values` and `labels`; the arguments are `TrainingArguments`."""
    from transformers import Trainer

    class Mixing(Trainer):
        loss_is_scaled_for_ga = False  # else a model of transformers adds up the losses of accumulated batches

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            mix.enabled = model.training  # evaluation comes here too
            mixed, targets = mix(model, inputs["pixel_values"], inputs["labels"])
            outputs = model(mixed)
            loss = mix.loss(F.cross_entropy, outputs, targets)
            return (loss, outputs) if return_outputs else loss

    trainer = Mixing(model, arguments, train_dataset=dataset, eval_dataset=dataset)
    trainer.train()
    return trainer


def with_accelerate(model, loader, mix, epochs=1):
    from accelerate import Accelerator

    accelerator = Accelerator(gradient_accumulation_steps=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    accelerator.register_for_checkpointing(mix)  # so that load_state goes on with the same draws
    for _ in range(epochs):
        for images, labels in loader:
            with accelerator.accumulate(model):
                mixed, targets = mix(model, images, labels)
                accelerator.backward(mix.loss(F.cross_entropy, model(mixed), targets))
                optimizer.step()
                optimizer.zero_grad()
    return accelerator


def with_ignite(model, loader, mix, epochs=1):
    from ignite.engine import Events, create_supervised_trainer
    from ignite.utils import convert_tensor

    trainer = create_supervised_trainer(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        partial(mix.loss, F.cross_entropy),
        prepare_batch=lambda batch, **place: mix(model, *convert_tensor(batch, **place)),
        gradient_accumulation_steps=2,
    )
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: mix.draws.seed(0, engine.state.epoch))
    trainer.run(loader, max_epochs=epochs)
    return trainer


def with_fastai(model, loader, mix, epochs=1):
    from fastai.data.core import DataLoaders
    from fastai.learner import Callback, Learner
    from fastai.optimizer import SGD

    class Mixing(Callback):
        run_valid = False

        def before_epoch(self):
            mix.draws.seed(0, self.epoch)

        def before_batch(self):
            mixed, targets = mix(self.model, self.x, self.y)
            self.learn.xb, self.learn.yb = (mixed,), (targets,)

    loaders, loss = DataLoaders(loader, loader), partial(mix.loss, F.cross_entropy)
    learner = Learner(loaders, model, loss_func=loss, opt_func=SGD, cbs=Mixing())
    learner.fit(epochs, lr=0.1)
    return learner


def with_timm(model, loader, mix, epochs=1):
    """The loader is `timm.data.create_loader(...)`, which normalises: the mixer has the same mean and std."""
    from timm.loss import SoftTargetCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.utils import ModelEmaV3, NativeScaler

    optimizer, criterion = create_optimizer_v2(model, opt="adamw", lr=2e-3), SoftTargetCrossEntropy()
    scaler, average = NativeScaler(next(model.parameters()).device.type), ModelEmaV3(model, decay=0.9)
    for epoch in range(epochs):
        mix.draws.seed(0, epoch)
        for images, labels in loader:
            mixed, targets = mix(model, images, labels)
            loss = mix.loss(criterion, model(mixed), targets)
            optimizer.zero_grad()
            scaler(loss, optimizer)
            average.update(model)
    return average


def main(epochs: int = 3) -> dict[str, float]:
    """The test accuracy in each framework that is installed."""
    pixels, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    images = (pixels / 16).float().view(-1, 1, 8, 8)  # (1797, 1, 8, 8) in [0, 1]
    loader = DataLoader(TensorDataset(images[:1297], labels[:1297]), batch_size=32, shuffle=True)

    def transformers_of_loader(model, loader, mix, epochs):
        from transformers import TrainingArguments

        dataset = [{"pixel_values": image, "labels": label} for image, label in loader.dataset]
        with TemporaryDirectory() as folder:
            options = {"per_device_train_batch_size": 32, "learning_rate": 1e-2, "num_train_epochs": epochs}
            arguments = TrainingArguments(folder, remove_unused_columns=False, report_to="none", **options)
            with_transformers(model, dataset, mix, arguments)

    loops = (with_torch, with_lightning, transformers_of_loader, with_accelerate, with_ignite, with_fastai, with_timm)
    accuracy = {}
    for train in loops:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 64, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))
        try:
            train(model, loader, puzzlemix.PuzzleMix(num_classes=10, blocks=(2, 4), neigh_size=2), epochs)
        except ImportError as error:
            print(f"{train.__name__}: {error}")
            continue
        with torch.no_grad():
            is_right = model(images[1297:].to(model[0].weight.device)).argmax(1).cpu() == labels[1297:]
        accuracy[train.__name__] = is_right.float().mean().item()
        print(f"{train.__name__}: test accuracy {100 * accuracy[train.__name__]:.1f} %")
    return accuracy


if __name__ == "__main__":
    main()
