"""Milliseconds of each part of a training step, in the training loop itself, for each setting of arithmetic."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

import torch

from puzzlemix.cli.config import build
from puzzlemix.runtime.errors import require_choice
from puzzlemix.training.log import RunLog
from puzzlemix.training.loop import Trainer
from puzzlemix.training.precision import compute_in_float32
from puzzlemix.training.progress import ProgressBar

Compose = Callable[[Sequence[str]], Mapping[str, Any]]  # the config of configs/train.yaml with these overrides

PARTS = ("data", "saliency", "mixing", "network", "optimizer")
HEADER = ("images", "setting", "method", *PARTS, "sum, ms", "times vanilla", "times faster than plain")
STEPS = 5  # steps of an epoch
PLAIN = ("channels_last=false", "fused=false")
SETTINGS = {
    "plain": PLAIN,
    "channels_last": ("channels_last=true", "fused=false"),
    "fused": ("channels_last=false", "fused=true"),
    "tf32": (*PLAIN, "precision=tf32"),
    "bf16": (*PLAIN, "precision=bf16"),
    "compile": (*PLAIN, "compile=true"),
    "deterministic": (*PLAIN, "deterministic=true"),
    "default": (),
    "default bf16": ("precision=bf16",),
    "default bf16 compile": ("precision=bf16", "compile=true"),
}
GPU_ONLY = ("tf32",)


def on_photographs(images: int, pixels: int, batch_size: int, channels: int) -> list[str]:
    """Overrides for a run on any number of photographs of any size, with the classes and the recipe of CIFAR-100."""
    return [
        "dataset=cifar100",
        "dataset._target_=benchmarks.photographs.Photographs",
        f"dataset.train_images={images}",
        "dataset.test_images=200",
        f"dataset.image_size=[{pixels},{pixels}]",
        "network=preactresnet18",
        f"network.initial_channels={channels}",
        "recipe=cifar100_preactresnet18",
        f"recipe.batch_size={batch_size}",
    ]


def benchmark(
    compose: Compose, device: str, repeats: int, methods: Sequence[str], settings: Sequence[str], channels: int | None
) -> Iterator[tuple[str, ...]]:
    """Rows as in `HEADER`: medians of `repeats` epochs of `STEPS` steps after one to warm up; the settings take turns.

    The first rows are of digits, in batches of 50 on their small network. The others are of images with CIFAR-100's
    shape, in batches of 100 on PreActResNet-18.

    Args:
        methods: measured in addition to vanilla training; a method may be followed by overrides, after spaces.
        settings: measured in addition to `plain`; none for all that work on the device.
        channels: initial channels of PreActResNet-18; None for 16 on a CPU and the paper's 64 on a GPU.
    """
    digits = [f"dataset.train_per_class={5 * STEPS}", "recipe.batch_size=50"]
    channels = channels or (64 if device == "cuda" else 16)
    large = on_photographs(100 * STEPS, 32, 100, channels)
    for name in settings:
        require_choice("setting", name, SETTINGS)
    here = [name for name in SETTINGS if device == "cuda" or name not in GPU_ONLY]
    all_here = {name: SETTINGS[name] for name in here if name == "plain" or name in settings or not settings}
    few = {name: all_here[name] for name in ("plain", "default") if name in all_here}
    for title, run, settings in (("digits, 50", digits, few), (f"100, {channels} channels", large, all_here)):
        times = measure(compose, [*run, f"device={device}"], settings, ("vanilla", *methods), repeats)
        sums = {key: median(sum(epoch.values()) for epoch in epochs) for key, epochs in times.items()}
        for (setting, method), epochs in times.items():
            parts = [median(epoch[part] for epoch in epochs) for part in PARTS]
            total = sums[setting, method]
            ratios = total / sums[setting, "vanilla"], sums["plain", method] / total
            yield title, setting, method, *(f"{ms:.1f}" for ms in (*parts, total)), *(f"{r:.2f}" for r in ratios)


def measure(
    compose: Compose,
    run: Sequence[str],
    settings: Mapping[str, Sequence[str]],
    methods: Sequence[str],
    repeats: int,
) -> dict[tuple[str, str], list[dict[str, float]]]:
    """Milliseconds of each part of a step, for each epoch of every setting and method."""
    times: dict[tuple[str, str], list[dict[str, float]]] = {(s, m): [] for s in settings for m in methods}
    with tempfile.TemporaryDirectory() as folder:
        fixed = [*run, f"results_dir={folder}", "name=benchmark", f"recipe.epochs={repeats + 1}"]
        trainers = {(s, m): _trainer(compose([*fixed, *settings[s], *f"mixup={m}".split()])) for s, m in times}
        for _ in range(repeats + 1):
            for key, trainer in trainers.items():
                # set again, since the trainer that was made last has set it for the whole process
                compute_in_float32(trainer.arithmetic.deterministic)
                times[key].append(_epoch_ms(trainer))
    return {key: epochs[1:] for key, epochs in times.items()}


def _trainer(config: Mapping[str, Any]) -> Trainer:
    data, network, mixer, recipe = build(config)
    device = torch.device(config["device"])
    data.load(device)
    return Trainer(network.to(device), mixer, data, recipe, RunLog(config))


def _epoch_ms(trainer: Trainer) -> dict[str, float]:
    """Train an epoch, and return the milliseconds of each part of a step."""
    with ProgressBar("", trainer.recipe.epochs, 0) as bar:  # 0: each epoch counts as the first, so nothing is printed
        trainer.train_epoch(bar)
    seconds, steps = trainer.state.stopwatch.pop(), trainer.state.steps_done
    trainer.state.begin_next_epoch()
    return {part: 1000 * seconds.get(part, 0.0) / steps for part in PARTS}
