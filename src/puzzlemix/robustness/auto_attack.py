"""AutoAttack (Croce and Hein, ICML 2020) in its authors' package, pyautoattack: four attacks, none of which is tuned.

Each attacks the images that the ones before left: APGD on the cross-entropy, APGD towards other classes, FAB towards
other classes, and Square, which sees no gradient.
"""

from __future__ import annotations

import importlib.util
import logging
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from puzzlemix.errors import require, require_number, require_whole
from puzzlemix.evaluation import Batches, Evaluator
from puzzlemix.streams import torch_seed

ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")
TARGETS = 9  # classes that an image is driven towards, where there are as many others
LEAST_CLASSES = 4  # that the loss of APGD-T is defined for


def check_auto_attack(eps_255: float | None, every: int) -> None:
    """Raise `InputError` unless it can be run so: ask before an hour of evaluation."""
    require_whole("auto_attack.every", every, least=1)
    if eps_255 is None:
        return
    require_number("auto_attack.eps_255, in 1/255 of the pixel range,", eps_255, 0, 255)
    there = importlib.util.find_spec("pyautoattack") is not None
    remedy = "pip install '.[robustness]', or leave it out with auto_attack.eps_255=null"
    require(there, f"AutoAttack needs pyautoattack: {remedy}")


def auto_attack(evaluator: Evaluator, eps_255: float, every: int = 1) -> dict[str, Any]:
    """The standard version of AutoAttack, L-infinity, a batch at a time.

    Each attack on each batch starts from the evaluator's seed, so that an evaluation that goes on finds what it would
    have found. The global random state stays as it was.

    Args:
        evaluator: of the network.
        eps_255: the bound, in 1/255.
        every: of so many test images one is attacked.

    Returns:
        `eps_255`; top-1 `error` in percent; `clean`, that of the same images unchanged; `after`, the error after each
        attack; how many `images`; `package`, with its version.

    Raises:
        InputError: the network has too few classes.
    """
    check_auto_attack(eps_255, every)
    classes = evaluator.data.num_classes
    require(classes >= LEAST_CLASSES, f"AutoAttack needs {LEAST_CLASSES} classes or more, not {classes}: leave it out")
    adversary = _adversary(evaluator, eps_255 / 255, classes)

    def measure(batch: int, images: Tensor, labels: Tensor) -> Tensor:
        images, labels = images[::every], labels[::every]
        with torch.no_grad():
            robust = evaluator.network(images).argmax(1) == labels  # (B,)
        left = [robust.sum()]
        for attack in ATTACKS:
            if robust.any():
                found = _attacked(adversary, attack, images[robust], labels[robust])
                with torch.no_grad():
                    robust[robust.clone()] = evaluator.network(found).argmax(1) == labels[robust]
            left.append(robust.sum())
        return torch.stack([*left, torch.tensor(len(labels), device=robust.device)])

    at_once = every * evaluator.batch_size  # so that a batch is attacked at a time
    all_images = Batches(evaluator.data.test_batches(at_once), evaluator.data.test_steps(at_once))
    *left, count = evaluator.total(f"AutoAttack {eps_255:g}/255, every {every}", len(ATTACKS) + 2, measure, all_images)
    clean, *after = (100 * (1 - known / count) for known in left)
    return {
        "eps_255": eps_255,
        "error": after[-1],
        "clean": clean,
        "after": dict(zip(ATTACKS, after, strict=True)),
        "images": int(count),
        "package": f"pyautoattack {version('pyautoattack')}",
    }


def _adversary(evaluator: Evaluator, eps: float, classes: int) -> Any:
    from pyautoattack import AutoAttack  # here, since it is an optional package

    logging.getLogger("auto-attack").setLevel(logging.ERROR)  # it warns of each batch; see self_checks.py
    seed = torch_seed("auto attack", evaluator.seed) % 2**32
    network, device = evaluator.network, evaluator.device
    adversary = AutoAttack(network, norm="Linf", eps=eps, version="standard", seed=seed, device=device)
    adversary.apgd_targeted.n_target_classes = adversary.fab.n_target_classes = min(TARGETS, classes - 1)
    return adversary


def _attacked(adversary: Any, attack: str, images: Tensor, labels: Tensor) -> Tensor:
    """Images after one of the attacks, whose random numbers are torch's global ones."""
    gpus = [images.device.index or 0] if images.device.type == "cuda" else []
    adversary.attacks_to_run = [attack]
    with torch.random.fork_rng(devices=gpus):
        found, _ = adversary.run_standard_evaluation(images, labels, batch_size=len(images))
    return found
