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
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from puzzlemix.checkpoint import stored_parts
from puzzlemix.errors import InputError, require
from puzzlemix.foreign_objects import Inert, RefusedError, StoredTensor, printable
from puzzlemix.foreign_pickle import Pickled, read_pickle

MAGIC_NUMBER, PROTOCOL_VERSION = 0x1950A86A20F9469CFC6C, 1001  # of torch's files before 1.6
PREFIX = "module."  # of DataParallel
BEST = ("best_err1", "best_err5", "best_prec1")
SHOWN = 3  # names of those that do not fit
Claim = str | int | float


class ForeignCheckpoint(NamedTuple):
    """A file of the authors'.

    Attributes:
        path: of the file.
        sha256: of its bytes.
        content: what it holds, as plain data.
        numbers: the bytes of its storages, by key.
    """

    path: Path
    sha256: str
    content: dict[Any, Any]
    numbers: Mapping[str, bytes]

    @property
    def stored(self) -> dict[str, StoredTensor]:
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
        matrices = [tensor for tensor in self.stored.values() if len(tensor.shape) == 2]
        require(bool(matrices), f"{self.path} has no last layer that tells the number of classes: is it a classifier?")
        return matrices[-1].shape[0]

    def weights_for(self, network: nn.Module) -> dict[str, Tensor]:
        """The tensors by name, on the CPU, each in memory of its own.

        Raises:
            InputError: they are not those of `network` in name, shape and kind of number, are not finite, or the file
                is damaged.
        """
        misfits = "; ".join(_misfits(self.stored, network.state_dict()))
        require(not misfits, f"{self.path} is of another network: {misfits}: give the --network that it is of")
        weights = {name: self._tensor(stored) for name, stored in self.stored.items()}
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
        said |= {key: self._number(self.content.get(key)) for key in BEST}
        return {key: value for key, value in said.items() if value is not None}

    def _number(self, value: Any) -> float | None:
        """A percentage, also of a tensor that holds one; None of anything else."""
        if isinstance(value, StoredTensor) and math.prod(value.shape) == 1:
            value = self._tensor(value).item()
        return float(value) if isinstance(value, int | float) and 0 <= value <= 100 else None

    def _tensor(self, stored: StoredTensor) -> Tensor:
        try:
            raw = bytearray(self.numbers[stored.storage.key])
            numbers = torch.frombuffer(raw, dtype=stored.storage.dtype)
            return numbers.as_strided(stored.shape, stored.strides, stored.offset).clone()
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise _damaged(self.path, error) from error


def read_foreign(path: Path) -> ForeignCheckpoint:
    """Read a file of the authors'. Nothing that it names is imported or called.

    Raises:
        InputError: it is not there, damaged, no checkpoint, or would run something, which is then named.
    """
    require(not path.is_dir(), f"{path} is a folder: give a file, such as {path}/checkpoint.pth.tar")
    require(path.is_file(), f"{path} is not there: give a file of the release, such as checkpoint.pth.tar")
    try:
        data = path.read_bytes()  # once, so that what is read is what is hashed
        read = _read_zip if data.startswith(b"PK\x03\x04") else _read_pickles
        content, numbers = read(data)
    except RefusedError as refused:
        raise InputError(f"{path} would run {refused}: refused, nothing was run") from refused
    except Exception as error:  # whatever a file that is cut short or foreign makes of a reader
        raise _damaged(path, error) from error
    _check_content(path, content)
    return ForeignCheckpoint(path, hashlib.sha256(data).hexdigest(), content, numbers)


def _read_zip(data: bytes) -> tuple[Any, dict[str, bytes]]:
    """A file of torch 1.6 or later: the archive's folder holds data.pkl, and a storage in data/KEY each."""
    parts = dict(stored_parts(io.BytesIO(data)))
    (pickle,) = [name for name in parts if name.endswith("/data.pkl")]
    folder = pickle.removesuffix("data.pkl")
    if parts.get(folder + "byteorder", b"little") != b"little":
        raise ValueError("of a machine with another order of bytes")
    content, storages = read_pickle(io.BytesIO(parts[pickle]))
    return content, {key: parts[f"{folder}data/{key}"] for key in storages}


def _read_pickles(data: bytes) -> tuple[Any, dict[str, bytes]]:
    """A file of an earlier torch: five pickles in a row, three of the format, the content, the storages' keys; then the
    storages.
    """
    stream = io.BytesIO(data)
    magic_number, version, system, (content, storages), keys = (read_pickle(stream) for _ in range(5))
    if (magic_number.content, version.content) != (MAGIC_NUMBER, PROTOCOL_VERSION):
        raise ValueError("not a file of torch's")
    if not system.content["little_endian"]:
        raise ValueError("of a machine with another order of bytes")
    return content, dict(_storages_behind(stream, keys, storages))


def _storages_behind(stream: io.BytesIO, keys: Pickled, storages: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The storages behind the pickles: each as the number of its elements, int64, and these."""
    for key in keys.content:
        size = int.from_bytes(stream.read(8), "little", signed=True) * storages[key].dtype.itemsize
        raw = stream.read(size)
        if len(raw) != size:
            raise ValueError("cut short")
        yield key, raw


def _check_content(path: Path, content: Any) -> None:
    """Raise `InputError` unless it is a dict with a network's tensors by name."""
    state = content.get("state_dict") if isinstance(content, dict) else None
    held = [key for key in content if isinstance(key, str)] if isinstance(content, dict) else []
    shown = f"holds {_first(held)}" if held else "is something else"
    remedy = "give a file that the release's training saved"
    require(isinstance(state, dict) and bool(state), f"{path} has no 'state_dict', it {shown}: {remedy}")
    tensors = all(isinstance(name, str) and isinstance(tensor, StoredTensor) for name, tensor in state.items())
    require(tensors, f"the 'state_dict' of {path} holds more than tensors: {remedy}")


def _misfits(stored: Mapping[str, StoredTensor], ours: Mapping[str, Tensor]) -> Iterator[str]:
    """In words: which tensors are missing, unknown, of another shape, or of whole numbers where ours are not."""
    missing = [name for name in ours if name not in stored]
    unknown = [name for name in stored if name not in ours]
    shared = {name: (list(stored[name].shape), list(ours[name].shape)) for name in ours if name in stored}
    others = [f"{name} {theirs}, not {own}" for name, (theirs, own) in shared.items() if theirs != own]
    kinds = [
        name for name in shared if stored[name].storage.dtype.is_floating_point != ours[name].dtype.is_floating_point
    ]
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
    attributes = recorder.attributes if isinstance(recorder, Inert) else None
    try:
        done, accuracies = attributes["current_epoch"], attributes["epoch_accuracy"].values()[:, 1]
        tested = [round(float(accuracy), 3) for accuracy in accuracies[:done]]
        best = max(tested)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        return {}
    if not all(0 <= accuracy <= 100 for accuracy in tested):
        return {}
    said = {"recorded_epochs": len(tested), "total_epochs": len(accuracies), "last_accuracy": tested[-1]}
    return {**said, "best_accuracy": best, "best_accuracy_epochs": tested.index(best) + 1}


def _first(names: list[str]) -> str:
    """`a, b, c, ...`, of names that come from a file."""
    return ", ".join([*map(printable, names[:SHOWN]), *(["..."] if len(names) > SHOWN else [])])


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is damaged or no checkpoint ({type(error).__name__}: {printable(error)}): get it anew")
