"""Checkpoints of the authors' releases of Puzzle Mix and Co-Mixup, read without running anything that they hold.

What the releases save, each by torch.save in pickle protocol 2, of a network in DataParallel (`module.` before names):

    main.py of both
        {epoch, arch, state_dict, recorder, optimizer}; the recorder is a RecorderMeter of `logger`, in earlier versions
        of `utils`, with NumPy arrays of losses and accuracies, (epochs, 2), in training and on test images
    imagenet/train.py
        {epoch, arch, state_dict, best_err1, best_err5, optimizer}; its epoch counts from 0
    imagenet_fast/main_fast.py, comix-imagenet/main_fast_ddp.py
        {epoch, arch, state_dict, best_prec1, optimizer}; best_prec1 is a tensor on the GPU

Puzzle Mix's main.py saves before it records, so its recorder lacks the epoch of the weights; Co-Mixup's has it. Puzzle
Mix was written for torch 1.1, whose files are pickles in a row, Co-Mixup for 1.7, whose files are zip archives.

Next to the checkpoint main.py writes `log.txt`. It has a line `**Test** Prec@1 ...` for each epoch; after the last,
where test_robust.py was run, a line for each attack after each of its steps.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from puzzlemix.runtime.errors import require
from puzzlemix.training.checkpoint import as_input_error, read_saved

PREFIX = "module."  # of DataParallel
BEST = ("best_err1", "best_err5", "best_prec1")
SHOWN = 3  # names of those that do not fit
LOG = "log.txt"  # next to it
NUMBER = r"(\d+(?:\.\d+)?)"
SEED = re.compile(r"^Random Seed: (\d{1,9})$", re.MULTILINE)
TESTED = re.compile(rf"\*\*Test\*\* Prec@1 {NUMBER} ")
ATTACKED = re.compile(rf"^(FSGM|PGD) attack \(eps {NUMBER}, step {NUMBER}, iter: (\d+)\): {NUMBER}$", re.MULTILINE)
Claim = str | int | float


class Inert:
    """An object that keeps the state that a file gives it, and does nothing with it. No other attribute can be set."""

    __slots__ = ("state",)

    def __new__(cls, *_given: Any) -> Inert:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.state = state


RECORDERS = ("logger.RecorderMeter", "utils.RecorderMeter")
ARRAYS = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype")
STAND_INS = [(Inert, name) for name in (*RECORDERS, *ARRAYS)]


class ForeignCheckpoint(NamedTuple):
    """A file of the authors'.

    Attributes:
        path: of the file.
        sha256: of its bytes.
        content: what it holds: plain data, tensors, and `Inert` objects.
    """

    path: Path
    sha256: str
    content: dict[Any, Any]

    @property
    def stored(self) -> dict[str, Tensor]:
        """The network's tensors by name, without what DataParallel puts before it."""
        state = self.content["state_dict"]
        wrapped = all(name.startswith(PREFIX) for name in state)
        return {name.removeprefix(PREFIX) if wrapped else name: tensor for name, tensor in state.items()}

    @property
    def num_classes(self) -> int:
        """Classes of the last layer, which is the last matrix.

        Raises:
            InputError: there is none.
        """
        matrices = [tensor for tensor in self.stored.values() if tensor.dim() == 2]
        require(bool(matrices), f"{self.path} has no last layer that tells the number of classes: is it a classifier?")
        return matrices[-1].shape[0]

    def weights_for(self, network: nn.Module) -> dict[str, Tensor]:
        """The tensors by name, on the CPU, each in memory of its own.

        Raises:
            InputError: they are not those of `network` in name, shape and kind of number, or are not finite.
        """
        misfits = "; ".join(_misfits(self.stored, network.state_dict()))
        require(not misfits, f"{self.path} is of another network: {misfits}: give the --network that it is of")
        with as_input_error(self.path):
            weights = {name: tensor.detach().clone() for name, tensor in self.stored.items()}
            broken = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
        require(not broken, f"{self.path} holds weights that are not finite ({_first(broken)}): its training diverged")
        return weights

    def claims(self) -> dict[str, Claim]:
        """What the file says of its training, as far as it does.

        Returns:
            `arch`, `epoch`, and in percent those of `BEST`; from the recorder `recorded_epochs`, `total_epochs`, and in
            percent `last_accuracy` and `best_accuracy`, this after `best_accuracy_epochs`.
        """
        arch, epoch = self.content.get("arch"), self.content.get("epoch")
        said: dict[str, Any] = {"arch": arch if isinstance(arch, str) and arch.isidentifier() else None}
        said["epoch"] = epoch if isinstance(epoch, int) and 0 <= epoch < 10**9 else None
        said |= _recorded(self.content.get("recorder"))
        with as_input_error(self.path):
            said |= {key: _percentage(self.content.get(key)) for key in BEST}
        return {key: value for key, value in said.items() if value is not None}


def read_foreign(path: Path) -> ForeignCheckpoint:
    """Read a file of the authors'. Nothing that it names is imported or called.

    Raises:
        InputError: it is not there, damaged, no checkpoint, or would run something, which is then named.
    """
    content = read_saved(path, "checkpoint.pth.tar", STAND_INS)
    with as_input_error(path):
        state = content.get("state_dict") if isinstance(content, dict) else None
        held = [key for key in content if isinstance(key, str)] if isinstance(content, dict) else []
        shown = f"holds {_first(held)}" if held else "is something else"
        remedy = "give a file that the release's training saved"
        require(isinstance(state, dict) and bool(state), f"{path} has no 'state_dict', it {shown}: {remedy}")
        tensors = all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items())
        require(tensors, f"the 'state_dict' of {path} holds more than tensors: {remedy}")
    return ForeignCheckpoint(path, hashlib.sha256(path.read_bytes()).hexdigest(), content)


def claims_of_log(path: Path) -> dict[str, int | float]:
    """What a log claims, as far as it does; nothing where there is none.

    Returns:
        `log_seed`, `log_epochs`, and accuracies in percent: `log_last`, `log_median10` (of the last ten epochs, the
        paper's statistic), `log_best`, and for each attack, after its last step, such as `log_under FGSM 8/255`.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return {}
    claims: dict[str, int | float] = {}
    if seed := SEED.search(text):
        claims["log_seed"] = int(seed[1])
    if tested := _percentages(TESTED.findall(text)):
        claims |= {"log_epochs": len(tested), "log_last": tested[-1]}
        claims |= {"log_median10": round(median(tested[-10:]), 3), "log_best": max(tested)}
    after: dict[tuple[str, ...], tuple[int, float]] = {}
    for *attack, steps, accuracy in ATTACKED.findall(text):
        if _percentages([accuracy]):
            after[tuple(attack)] = max(after.get(tuple(attack), (0, 0.0)), (int(steps), float(accuracy)))
    return claims | {f"log_under {_words(*attack, steps)}": value for attack, (steps, value) in after.items()}


def _misfits(stored: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> Iterator[str]:
    """In words: which tensors are missing, unknown, of another shape, or of whole numbers where ours are not."""
    missing = [name for name in ours if name not in stored]
    unknown = [name for name in stored if name not in ours]
    shared = {name: (list(stored[name].shape), list(ours[name].shape)) for name in ours if name in stored}
    others = [f"{name} {theirs}, not {own}" for name, (theirs, own) in shared.items() if theirs != own]
    kinds = [name for name in shared if stored[name].is_floating_point() != ours[name].is_floating_point()]
    if missing:
        yield f"{len(missing)} of {len(ours)} tensors are missing ({_first(missing)})"
    if unknown:
        yield f"{len(unknown)} are unknown ({_first(unknown)})"
    if others:
        yield f"{len(others)} have another shape ({_first(others)})"
    if kinds:
        yield f"{len(kinds)} are of another kind of number ({_first(kinds)})"


def _recorded(recorder: Any) -> dict[str, Claim]:
    """What a RecorderMeter says of the accuracy on test images; nothing where it is none."""
    try:
        _version, shape, _dtype, _column_major, raw = recorder.state["epoch_accuracy"].state
        accuracies = np.frombuffer(raw, "<f4").reshape(shape)[:, 1]
        tested = [round(float(accuracy), 3) for accuracy in accuracies[: recorder.state["current_epoch"]]]
        best = max(tested)
    except Exception:  # whatever it is instead
        return {}
    if not all(0 <= accuracy <= 100 for accuracy in tested):
        return {}
    said = {"recorded_epochs": len(tested), "total_epochs": len(accuracies), "last_accuracy": tested[-1]}
    return {**said, "best_accuracy": best, "best_accuracy_epochs": tested.index(best) + 1}


def _percentage(value: Any) -> float | None:
    """A percentage, also of a tensor that holds one; None of anything else."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    return float(value) if isinstance(value, int | float) and 0 <= value <= 100 else None


def _first(names: list[str]) -> str:
    """`a, b, c, ...`, of names that come from a file."""
    return ", ".join([*(name[:100] for name in names[:SHOWN]), *(["..."] if len(names) > SHOWN else [])])


def _words(kind: str, eps: str, step: str, steps: int) -> str:
    """`FGSM 8/255`, `FGSM-7 8/255 (step 2)`, `PGD-7 8/255 (step 2)`; FSGM is what the log calls FGSM."""
    name = kind.replace("FSGM", "FGSM")
    return f"{name} {eps}/255" if steps == 1 and step == eps else f"{name}-{steps} {eps}/255 (step {step})"


def _percentages(found: list[str]) -> list[float]:
    return [value for value in map(float, found) if value <= 100]
