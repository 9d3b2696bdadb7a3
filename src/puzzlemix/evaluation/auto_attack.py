"""AutoAttack (Croce and Hein, ICML 2020), four attacks without tuning, from the package pyautoattack.

Each one attacks the images that are still classified correctly: APGD on the cross-entropy, APGD towards other classes,
FAB towards other classes, and Square, which uses no gradient.
"""

import importlib.util
import logging
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from puzzlemix.data.sharding import evaluation_shards
from puzzlemix.evaluation.evaluator import Evaluator, Images
from puzzlemix.runtime.errors import require, require_number, require_whole
from puzzlemix.runtime.seeding import torch_seed

ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")
TARGETS = 9  # classes that an attack aims at, or all other classes if there are fewer
LEAST_CLASSES = 4  # the loss of APGD-T is not defined for fewer


def check_auto_attack(eps_255: float | None, every: int, classes: int) -> None:
    """Raise `InputError`, before an hour of evaluation, if these settings cannot work with this number of classes."""
    require_whole("auto_attack.every", every, least=1)
    if eps_255 is None:
        return
    without = "leave it out with auto_attack.eps_255=null"
    require(classes >= LEAST_CLASSES, f"AutoAttack needs {LEAST_CLASSES} classes or more, not {classes}: {without}")
    require_number("auto_attack.eps_255, in 1/255 of the pixel range,", eps_255, 0, 255)
    is_installed = importlib.util.find_spec("pyautoattack") is not None
    require(is_installed, f"AutoAttack needs pyautoattack: pip install '.[robustness]', or {without}")


def auto_attack(evaluator: Evaluator, eps_255: float, every: int = 1) -> dict[str, Any]:
    """Run the standard version of AutoAttack, L-infinity: one attack after the other, each in batches.

    After each attack the processes share the remaining images equally. Each attack starts on each batch from the
    evaluator's seed, so an evaluation that was stopped finds the same errors. The global random state does not change.

    Args:
        eps_255: the bound, in 1/255.
        every: n, to attack every n-th test image; 1 for all.

    Returns:
        `eps_255`; top-1 `error` in percent; `clean`, the error on the same images unchanged; `after`, the error after
        each attack; the number of `images`; `package` with its version.
    """
    adversary = _adversary(evaluator, eps_255 / 255)
    places = correct = range(0, evaluator.data.test_count, every)
    after: dict[str, float] = {}
    for attack in ("clean", *ATTACKS):
        title, variant = f"AutoAttack {eps_255:g}/255, {attack}", f"1 of {every}"
        correct = _still_correct(evaluator, adversary, attack, correct, title, variant)
        after[attack] = 100 * (1 - len(correct) / len(places))
    return {
        "eps_255": eps_255,
        "error": after["square"],
        "clean": after.pop("clean"),
        "after": after,
        "images": len(places),
        "package": f"pyautoattack {version('pyautoattack')}",
    }


def _still_correct(
    evaluator: Evaluator, adversary: Any, attack: str, places: Sequence[int], title: str, variant: str
) -> list[int]:
    """The places, among these, of the test images that the network classifies correctly after an attack.

    Nothing is done to the images if the attack is `clean`.
    """
    positions = evaluation_shards(range(len(places)), evaluator.batch_size)  # the positions of each batch in `places`

    def measure(batch: int, images: Tensor, labels: Tensor) -> Tensor:
        if attack != "clean":
            images = _attacked(adversary, attack, images, labels)
        with torch.no_grad():
            right = evaluator.network(images).argmax(1) == labels  # (B,)
        correct = torch.zeros(len(places), dtype=torch.float64, device=right.device)
        correct[torch.tensor(positions[batch], device=right.device)] = right.double()
        return correct

    images = Images(places, evaluator.data.test_batches)
    correct = evaluator.total(title, len(places), measure, images, variant)
    return [place for place, right in zip(places, correct, strict=True) if right]


def _adversary(evaluator: Evaluator, eps: float) -> Any:
    from pyautoattack import AutoAttack  # imported here, since it is an optional package

    logging.getLogger("auto-attack").setLevel(logging.ERROR)  # it warns for each batch; self_checks.py warns once
    seed = torch_seed("auto attack", evaluator.seed) % 2**32
    adversary = AutoAttack(
        evaluator.network, norm="Linf", eps=eps, version="standard", seed=seed, device=evaluator.device
    )
    targets = min(TARGETS, evaluator.data.num_classes - 1)
    adversary.apgd_targeted.n_target_classes = adversary.fab.n_target_classes = targets
    return adversary


def _attacked(adversary: Any, attack: str, images: Tensor, labels: Tensor) -> Tensor:
    """The images after one of the attacks, which draws from torch's global generators."""
    gpus = [images.device.index or 0] if images.device.type == "cuda" else []
    adversary.attacks_to_run = [attack]
    with torch.random.fork_rng(devices=gpus):
        found, _ = adversary.run_standard_evaluation(images, labels, batch_size=len(images))
    return found
