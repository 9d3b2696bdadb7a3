"""Checkpoints of the authors' releases of Puzzle Mix and Co-Mixup, read without running any code that they hold.

The releases save these by torch.save in pickle protocol 2. The network is in DataParallel (`module.` before names):

    main.py of both
        {epoch, arch, state_dict, recorder, optimizer}; the recorder is a RecorderMeter of `logger`, in earlier versions
        of `utils`, with NumPy arrays of losses and accuracies, (epochs, 2), in training and on test images
    imagenet/train.py
        {epoch, arch, state_dict, best_err1, best_err5, optimizer}; its epoch counts from 0
    imagenet_fast/main_fast.py, comix-imagenet/main_fast_ddp.py
        {epoch, arch, state_dict, best_prec1, optimizer}; best_prec1 is a tensor on the GPU

Puzzle Mix's main.py saves before it records, so its recorder lacks the epoch of the weights; Co-Mixup's has it. Puzzle
Mix was written for torch 1.1, whose files are pickles in a row, Co-Mixup for 1.7, whose files are zip archives.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from torch import Tensor

from puzzlemix.runtime.checkpoint import as_input_error, read_saved
from puzzlemix.runtime.errors import require
from puzzlemix.runtime.nested import is_percentage

PREFIX = "module."  # which DataParallel adds
BEST = ("best_err1", "best_err5", "best_prec1")
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
        weights: the network's tensors by name, without the prefix of DataParallel.
        num_classes: the number of classes of the last layer, the last matrix.
        claims: what the file says about its training, if it is possible: `arch`, `epoch`, those of `BEST` in percent,
            and from the recorder `recorded_epochs`, and in percent `last_accuracy` and `best_accuracy`.
    """

    weights: dict[str, Tensor]
    num_classes: int
    claims: dict[str, Claim]


def read_release_checkpoint(path: Path) -> ReleaseCheckpoint:
    """Read a checkpoint of a release. Nothing that it names is imported or called.

    Raises:
        InputError: it is missing, damaged, not a checkpoint of a classifier, or it names something to run.
    """
    content = read_saved(path, "checkpoint.pth.tar", STAND_INS)
    remedy = "give a file that the release's training saved"
    with as_input_error(path):
        state = content.get("state_dict") if isinstance(content, dict) else None
        require(isinstance(state, dict) and bool(state), f"{path} has no 'state_dict': {remedy}")
        is_tensors = all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items())
        require(is_tensors, f"the 'state_dict' of {path} holds more than tensors: {remedy}")
        classes = [tensor.shape[0] for tensor in state.values() if tensor.dim() == 2]
        require(bool(classes), f"{path} has no last layer, so it is not a classifier: {remedy}")
        is_wrapped = all(name.startswith(PREFIX) for name in state)
        weights = {name.removeprefix(PREFIX) if is_wrapped else name: tensor for name, tensor in state.items()}
        return ReleaseCheckpoint(weights, classes[-1], _claims(content))


def _claims(content: Mapping[str, Any]) -> dict[str, Claim]:
    arch, epoch = content.get("arch"), content.get("epoch")
    claims: dict[str, Claim] = {"arch": arch} if isinstance(arch, str) and arch.isidentifier() else {}
    claims |= {"epoch": epoch} if isinstance(epoch, int) and epoch >= 0 else {}
    claims |= _recorded(content.get("recorder"))
    for key in BEST:
        value = content.get(key)
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        claims |= {key: float(value)} if is_percentage(value) else {}
    return claims


def _recorded(recorder: Any) -> dict[str, Claim]:
    """A RecorderMeter's claims of accuracy on test images; `{}` if it is damaged or they are impossible."""
    try:
        _version, shape, _dtype, _column_major, raw = recorder.state["epoch_accuracy"].state
        accuracies = np.frombuffer(raw, "<f4").reshape(shape)[: recorder.state["current_epoch"], 1].round(3).tolist()
    except Exception:  # the file may have anything in its place
        return {}
    if not accuracies or not all(map(is_percentage, accuracies)):
        return {}
    return {"recorded_epochs": len(accuracies), "last_accuracy": accuracies[-1], "best_accuracy": max(accuracies)}
