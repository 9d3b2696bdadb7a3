"""Checkpoints of the authors' releases of Puzzle Mix and Co-Mixup, read without running any code that they hold.

The releases save these by torch.save in pickle protocol 2, of a network in DataParallel (`module.` before names):

    main.py of both
        {epoch, arch, state_dict, recorder, optimizer}; the recorder is a RecorderMeter of `logger`, in earlier versions
        of `utils`, with NumPy arrays of losses and accuracies, (epochs, 2), in training and on test images
    imagenet/train.py
        {epoch, arch, state_dict, best_err1, best_err5, optimizer}; its epoch counts from 0
    imagenet_fast/main_fast.py, comix-imagenet/main_fast_ddp.py
        {epoch, arch, state_dict, best_prec1, optimizer}; best_prec1 is a tensor on the GPU

Puzzle Mix's main.py saves before it records, so its recorder lacks the epoch of the weights; Co-Mixup's has it. Puzzle
Mix was written for torch 1.1, whose files are pickles in a row, Co-Mixup for 1.7, whose files are zip archives.

Next to the checkpoint main.py writes `log.txt`, with a line `**Test** Prec@1 ...` for each epoch. If test_robust.py was
run, there follows a line for each attack after each of its steps.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Self

import numpy as np
from torch import Tensor, nn

from puzzlemix.runtime.errors import require
from puzzlemix.training.checkpoint import as_input_error, read_saved

PREFIX = "module."  # of DataParallel
BEST = ("best_err1", "best_err5", "best_prec1")
LOG = "log.txt"  # next to the checkpoint
NUMBER = r"(\d+(?:\.\d+)?)"
SEED = re.compile(r"^Random Seed: (\d{1,9})$", re.MULTILINE)
TESTED = re.compile(rf"\*\*Test\*\* Prec@1 {NUMBER} ")
ATTACKED = re.compile(rf"^(FSGM|PGD) attack \(eps {NUMBER}, step {NUMBER}, iter: (\d+)\): {NUMBER}$", re.MULTILINE)
Claim = str | int | float


class Inert:
    """An object that keeps the state that a file gives it and does nothing with it. It has no other attribute."""

    __slots__ = ("state",)

    def __new__(cls, *_given: Any) -> Self:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.state = state


RECORDERS = ("logger.RecorderMeter", "utils.RecorderMeter")
ARRAYS = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype")
STAND_INS = [(Inert, name) for name in (*RECORDERS, *ARRAYS)]


class ReleaseCheckpoint(NamedTuple):
    """A checkpoint of a release.

    Attributes:
        path: of the file.
        sha256: of its bytes.
        content: plain data, tensors, and `Inert` objects.
    """

    path: Path
    sha256: str
    content: dict[Any, Any]

    @property
    def stored(self) -> dict[str, Tensor]:
        """The network's tensors by name, without the prefix of DataParallel."""
        state = self.content["state_dict"]
        is_wrapped = all(name.startswith(PREFIX) for name in state)
        return {name.removeprefix(PREFIX) if is_wrapped else name: tensor for name, tensor in state.items()}

    @property
    def num_classes(self) -> int:
        """The number of classes of the last layer, the last matrix; raises `InputError` if there is none."""
        matrices = [tensor for tensor in self.stored.values() if tensor.dim() == 2]
        require(bool(matrices), f"{self.path} has no last layer that tells the number of classes: is it a classifier?")
        return matrices[-1].shape[0]

    def weights_for(self, network: nn.Module) -> dict[str, Tensor]:
        """The tensors by name, on the CPU, each in memory of its own.

        Raises:
            InputError: they differ from those of `network` in name, shape or kind of number, or are not finite.
        """
        misfits = "; ".join(_misfits(self.stored, network.state_dict()))
        require(not misfits, f"{self.path} is of another network: {misfits}: give the --network that it is of")
        with as_input_error(self.path):
            weights = {name: tensor.detach().clone() for name, tensor in self.stored.items()}
            broken = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
        require(not broken, f"{self.path} holds weights that are not finite ({_some(broken)}): its training diverged")
        return weights

    def claims(self) -> dict[str, Claim]:
        """What the file claims about its training, without claims that are nonsense.

        Returns:
            `arch`, `epoch`, and those of `BEST` in percent; from the recorder `recorded_epochs`, `total_epochs`, and in
            percent `last_accuracy` and `best_accuracy`, the latter after `best_accuracy_epochs`.
        """
        arch, epoch = self.content.get("arch"), self.content.get("epoch")
        claims: dict[str, Claim] = {"arch": arch} if isinstance(arch, str) and arch.isidentifier() else {}
        claims |= {"epoch": epoch} if isinstance(epoch, int) and 0 <= epoch < 10**9 else {}
        claims |= _recorded(self.content.get("recorder"))
        with as_input_error(self.path):
            best = {key: _percentage(self.content.get(key)) for key in BEST}
        return claims | {key: value for key, value in best.items() if value is not None}


def read_release_checkpoint(path: Path) -> ReleaseCheckpoint:
    """Read a checkpoint of a release. Nothing that it names is imported or called.

    Raises:
        InputError: it is missing, damaged, no checkpoint, or names something to run, which the message names too.
    """
    content = read_saved(path, "checkpoint.pth.tar", STAND_INS)
    with as_input_error(path):
        keys = [key for key in content if isinstance(key, str)] if isinstance(content, dict) else []
        state = content["state_dict"] if "state_dict" in keys else None
        shown = f"holds {_some(keys)}" if keys else "is something else"
        remedy = "give a file that the release's training saved"
        require(isinstance(state, dict) and bool(state), f"{path} has no 'state_dict', it {shown}: {remedy}")
        is_tensors = all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items())
        require(is_tensors, f"the 'state_dict' of {path} holds more than tensors: {remedy}")
    return ReleaseCheckpoint(path, hashlib.sha256(path.read_bytes()).hexdigest(), content)


def claims_of_log(path: Path) -> dict[str, int | float]:
    """What a log claims; nothing if there is no log.

    Returns:
        `log_seed`, `log_epochs`, and accuracies in percent: `log_last`, `log_median10` (of the last ten epochs, the
        paper's statistic), `log_best`, and one for each attack after its last step, such as `log_under FGSM 8/255`.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return {}
    claims: dict[str, int | float] = {}
    if seed := SEED.search(text):
        claims["log_seed"] = int(seed[1])
    if tested := [value for value in map(float, TESTED.findall(text)) if value <= 100]:
        claims |= {"log_epochs": len(tested), "log_last": tested[-1]}
        claims |= {"log_median10": round(median(tested[-10:]), 3), "log_best": max(tested)}
    last_steps: dict[tuple[str, ...], tuple[int, float]] = {}
    for *attack, steps, accuracy in ATTACKED.findall(text):
        if float(accuracy) <= 100:
            last_steps[tuple(attack)] = max(last_steps.get(tuple(attack), (0, 0.0)), (int(steps), float(accuracy)))
    return claims | {f"log_under {_words(*attack, steps)}": value for attack, (steps, value) in last_steps.items()}


def _misfits(stored: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> Iterator[str]:
    """The differences in words: tensors that are missing, unknown, of another shape, or of another kind of number."""
    missing = [name for name in ours if name not in stored]
    unknown = [name for name in stored if name not in ours]
    shared = {name: (list(stored[name].shape), list(ours[name].shape)) for name in ours if name in stored}
    others = [f"{name} {theirs}, not {own}" for name, (theirs, own) in shared.items() if theirs != own]
    kinds = [name for name in shared if stored[name].is_floating_point() != ours[name].is_floating_point()]
    if missing:
        yield f"{len(missing)} of {len(ours)} tensors are missing ({_some(missing)})"
    if unknown:
        yield f"{len(unknown)} are unknown ({_some(unknown)})"
    if others:
        yield f"{len(others)} have another shape ({_some(others)})"
    if kinds:
        yield f"{len(kinds)} are of another kind of number ({_some(kinds)})"


def _recorded(recorder: Any) -> dict[str, Claim]:
    """The claims of a RecorderMeter about accuracy on test images; nothing if it is none."""
    try:
        _version, shape, _dtype, _column_major, raw = recorder.state["epoch_accuracy"].state
        accuracies = np.frombuffer(raw, "<f4").reshape(shape)[:, 1]
        tested = [round(float(accuracy), 3) for accuracy in accuracies[: recorder.state["current_epoch"]]]
        best = max(tested)
    except Exception:  # the file may have anything in its place
        return {}
    if not all(0 <= accuracy <= 100 for accuracy in tested):
        return {}
    claims = {"recorded_epochs": len(tested), "total_epochs": len(accuracies), "last_accuracy": tested[-1]}
    return {**claims, "best_accuracy": best, "best_accuracy_epochs": tested.index(best) + 1}


def _percentage(value: Any) -> float | None:
    """The percentage that a number or a tensor of one number holds; None for anything else."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    return float(value) if isinstance(value, int | float) and 0 <= value <= 100 else None


def _some(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c, ...` for names from a file, which may be long."""
    return ", ".join([*(name[:100] for name in names[:most]), *(["..."] if len(names) > most else [])])


def _words(kind: str, eps: str, step: str, steps: int) -> str:
    """`FGSM 8/255`, `FGSM-7 8/255 (step 2)`, `PGD-7 8/255 (step 2)`; the log spells FGSM as FSGM."""
    name = kind.replace("FSGM", "FGSM")
    return f"{name} {eps}/255" if steps == 1 and step == eps else f"{name}-{steps} {eps}/255 (step {step})"
