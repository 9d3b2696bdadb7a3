"""AutoAttack (Croce and Hein, ICML 2020) in its authors' package, pyautoattack: four attacks without tuning.

Each attacks the images that are still classified correctly: APGD on the cross-entropy, APGD towards other classes, FAB
towards other classes, and Square, which sees no gradient.
"""

import importlib.util
import logging
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from puzzlemix.data.sharding import evaluation_shards
from puzzlemix.evaluation.evaluator import Evaluator, Images
from puzzlemix.runtime.errors import require, require_number, require_whole
from puzzlemix.runtime.seeding import torch_seed

Perturb = Callable[[Tensor, Tensor], Tensor]  # images, labels -> images

ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")
TARGETS = 9  # classes that an image is driven towards, if there are that many others
LEAST_CLASSES = 4  # the loss of APGD-T is not defined for fewer


def check_auto_attack(eps_255: float | None, every: int, classes: int) -> None:
    """Raise `InputError`, before an hour of evaluation, unless these settings work with this number of classes."""
    require_whole("auto_attack.every", every, least=1)
    if eps_255 is None:
        return
    require(
        classes >= LEAST_CLASSES,
        f"AutoAttack needs {LEAST_CLASSES} classes or more, not {classes}: leave it out with auto_attack.eps_255=null",
    )
    require_number("auto_attack.eps_255, in 1/255 of the pixel range,", eps_255, 0, 255)
    is_installed = importlib.util.find_spec("pyautoattack") is not None
    remedy = "pip install '.[robustness]', or leave it out with auto_attack.eps_255=null"
    require(is_installed, f"AutoAttack needs pyautoattack: {remedy}")


def auto_attack(evaluator: Evaluator, eps_255: float, every: int = 1) -> dict[str, Any]:
    """The standard version of AutoAttack, L-infinity: one attack after the other, each a batch at a time.

    The processes share evenly what an attack leaves for the next. Each attack starts on each batch from the evaluator's
    seed, so that an evaluation that was stopped finds the same errors. The global random state stays as it is.

    Args:
        evaluator: of the network.
        eps_255: the bound, in 1/255.
        every: the step between attacked test images; 1 attacks all.

    Returns:
        `eps_255`; top-1 `error` in percent; `clean`, the error on the same images unchanged; `after`, the error after
        each attack; the number of `images`; `package` with its version.
    """
    adversary = _adversary(evaluator, eps_255 / 255)
    places = range(0, evaluator.data.test_count, every)
    bound = f"AutoAttack {eps_255:g}/255"
    correct = _still_correct(evaluator, f"{bound}, clean", places, lambda images, labels: images)
    left = [len(correct)]
    for attack in ATTACKS:
        correct = _still_correct(evaluator, f"{bound}, {attack}", correct, partial(_attacked, adversary, attack))
        left.append(len(correct))
    clean, *after = (100 * (1 - count / len(places)) for count in left)
    return {
        "eps_255": eps_255,
        "error": after[-1],
        "clean": clean,
        "after": dict(zip(ATTACKS, after, strict=True)),
        "images": len(places),
        "package": f"pyautoattack {version('pyautoattack')}",
    }


def _still_correct(evaluator: Evaluator, title: str, places: Sequence[int], perturb: Perturb) -> list[int]:
    """The places among these whose test images, once perturbed, the network classifies correctly; on all processes."""
    positions = evaluation_shards(range(len(places)), evaluator.batch_size)  # in `places`, of each batch

    def measure(batch: int, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            right = evaluator.network(perturb(images, labels)).argmax(1) == labels  # (B,)
        correct = torch.zeros(len(places), dtype=torch.float64, device=right.device)
        correct[torch.tensor(positions[batch], device=right.device)] = right.double()
        return correct

    images, checksum = Images(places, evaluator.data.test_batches), zlib.crc32(str(list(places)).encode())
    correct = evaluator.total(title, len(places), measure, images, variant=f"{checksum:08x}")
    return [place for place, right in zip(places, correct, strict=True) if right]


def _adversary(evaluator: Evaluator, eps: float) -> Any:
    from pyautoattack import AutoAttack  # here, since it is an optional package

    logging.getLogger("auto-attack").setLevel(logging.ERROR)  # it warns for each batch; see self_checks.py
    seed = torch_seed("auto attack", evaluator.seed) % 2**32
    network, device = evaluator.network, evaluator.device
    adversary = AutoAttack(network, norm="Linf", eps=eps, version="standard", seed=seed, device=device)
    adversary.apgd_targeted.n_target_classes = adversary.fab.n_target_classes = min(
        TARGETS, evaluator.data.num_classes - 1
    )
    return adversary


def _attacked(adversary: Any, attack: str, images: Tensor, labels: Tensor) -> Tensor:
    """The images after one of the attacks, which draws from torch's global generators."""
    gpus = [images.device.index or 0] if images.device.type == "cuda" else []
    adversary.attacks_to_run = [attack]
    with torch.random.fork_rng(devices=gpus):
        found, _ = adversary.run_standard_evaluation(images, labels, batch_size=len(images))
    return found
