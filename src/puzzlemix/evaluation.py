"""Errors of a network on the images that its dataset is evaluated on, clean and under attack, in percent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from puzzlemix import distributed
from puzzlemix.errors import InputError, require, require_whole
from puzzlemix.robustness.attacks import attack, check_attack
from puzzlemix.streams import torch_seed


def clean_errors(network: nn.Module, data: Any, batch_size: int) -> dict[str, float]:
    """Top-1 and top-5 error on unchanged images.

    Args:
        network: in any mode; evaluated in eval mode.
        data: a dataset of `puzzlemix.data`, loaded onto the network's device.
        batch_size: images at a time, of each process.
    """
    top1, top5 = _errors(network, data, batch_size, lambda images, labels: images, "evaluation")
    return {"top1_error": top1, "top5_error": top5}


def attack_errors(
    network: nn.Module, data: Any, batch_size: int, attacks: Mapping[str, Mapping[str, Any]], seed: int
) -> dict[str, float]:
    """Top-1 error under each attack, as `{name}_error`; the rest as for `clean_errors`.

    Args:
        attacks: by name, each with `eps_255` and `step_255` in 1/255, `steps` and `random_start`.
        seed: fixes the random starts, which other batches or another number of processes draw otherwise.
    """
    device = next(network.parameters()).device
    errors = {}
    for name, settings in attacks.items():
        options = _attack_options(name, settings)
        generator = torch.Generator(device).manual_seed(torch_seed("attack", seed, distributed.rank()))

        def perturb(images: Tensor, labels: Tensor, options=options, generator=generator) -> Tensor:
            return attack(network, images, labels, **options, generator=generator)

        errors[f"{name}_error"] = _errors(network, data, batch_size, perturb, name)[0]
    return errors


def check_evaluation(batch_size: int, attacks: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise `InputError` unless these settings can work: ask before hours of training."""
    require_whole("test_batch_size", batch_size, least=1)
    for name, settings in attacks.items():
        options = _attack_options(name, settings)
        try:
            check_attack(options["eps"], options["step"], options["steps"])
        except InputError as error:
            raise InputError(f"attack '{name}': {error}") from error


def _attack_options(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `attack`, in its units."""
    wanted = {"eps_255", "step_255", "steps", "random_start"}
    require(set(settings) == wanted, f"attack '{name}' must have {sorted(wanted)}, not {sorted(settings)}")
    require(None not in settings.values(), f"attack '{name}' must not have null in {dict(settings)}")
    eps, step = settings["eps_255"] / 255, settings["step_255"] / 255
    return {"eps": eps, "step": step, "steps": settings["steps"], "random_start": settings["random_start"]}


def _errors(
    network: nn.Module, data: Any, batch_size: int, perturb: Callable[[Tensor, Tensor], Tensor], what: str
) -> tuple[float, float]:
    """Top-1 and top-5 error of this and all other processes' images together, each image once."""
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    counts = torch.zeros(3, device=device, dtype=torch.float64)  # right in 1, right in 5, images
    quiet = None if distributed.is_main() else True  # None: silent unless on a terminal
    steps = data.test_steps(batch_size)
    with closing(data.test_batches(batch_size)) as batches:
        for images, labels in tqdm(batches, desc=what, total=steps, unit="batch", leave=False, disable=quiet):
            images = perturb(images, labels)
            with torch.no_grad():
                logits = network(images)  # (B, K)
            best = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]  # (B, 5)
            counts += torch.stack([best[:, 0].sum(), best.any(1).sum(), torch.tensor(len(labels), device=device)])
    network.train(training)
    right1, right5, images = distributed.sum_over_processes(counts).tolist()
    return 100 * (1 - right1 / images), 100 * (1 - right5 / images)
