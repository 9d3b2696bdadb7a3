"""Checkpoints: files from which a run goes on, or a network is evaluated. Each is complete or does not exist."""

import hashlib
import io
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import IO, Any

import torch
from torch import nn
from torch.serialization import safe_globals

from puzzlemix.runtime.errors import InputError, RunError, require
from puzzlemix.runtime.files import whole_file
from puzzlemix.runtime.nested import has_shape, is_plain


def save_checkpoint(path: Path, content: Mapping[str, Any], previous: Path | None = None) -> None:
    """Write `content` (tensors, numbers, strings, and containers of them) to a file: see `files.whole_file`.

    Raises:
        RunError: it cannot be written; the old files do not change.
    """
    with whole_file(path, previous) as file:
        try:
            torch.save(dict(content), file)
        except RuntimeError as error:  # its message does not name the cause
            if isinstance(error.__context__, OSError | KeyboardInterrupt):
                raise error.__context__ from None
            raise


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of this repository onto the CPU, without running any code that it might hold.

    Only its `config` is checked: it must be plain data (`nested.is_plain`).

    Raises:
        InputError: it is missing, damaged, or not a checkpoint of this repository.
    """
    content = read_saved(Path(path), "checkpoints/last.pt")
    is_ours = has_shape(content, {"network": object, "config": dict}) and is_plain(content["config"])
    require(is_ours, f"{path} is not a checkpoint of this repository: it lacks 'network' or the 'config' of a run")
    return content


def read_saved(path: Path, example: str, stand_ins: Sequence[tuple[type, str]] = ()) -> Any:
    """Read a file of torch.save onto the CPU, without running any code that it might hold.

    Args:
        path: a zip archive, or several pickles in a row, as torch saved them before 1.6.
        example: the name of such a file, for messages.
        stand_ins: pairs of a class of ours and the name of a class in the file. Torch makes objects of our class
            instead, with the file's arguments and state, so the class must do nothing with these.

    Raises:
        InputError: it is missing, damaged, or names anything except torch's own data and `stand_ins`.
    """
    require(not path.is_dir(), f"{path} is a folder: give a checkpoint, such as {path}/{example}")
    require(path.is_file(), f"{path} does not exist: give a checkpoint, such as {example}")
    try:
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"), safe_globals(list(stand_ins)):
            source = _rewritten(file) if file.peek(4).startswith(b"PK\3\4") else file
            return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # anything that the unpickler raises on a damaged or foreign file
        if named := re.search(r"GLOBAL (\S{1,100})", str(error)):
            raise InputError(f"{path} would run {named[1]}: refused, nothing was run") from error
        reason = type(error).__name__  # torch's own message advises users to switch its safety off
        raise InputError(f"{path} is damaged or not a checkpoint ({reason}): restore it, or delete it") from error


@contextmanager
def as_input_error(path: str | Path) -> Iterator[None]:
    """Turn any error inside into an `InputError`: the content of somebody's file has caused it."""
    try:
        yield
    except (InputError, RunError):
        raise
    except Exception as error:
        shown = f"{type(error).__name__}: {error}"[:200]
        raise InputError(f"{path} does not work here ({shown}): give another checkpoint") from error


def load_newest(paths: Sequence[Path]) -> tuple[Path, dict[str, Any]] | None:
    """The path and content of the first undamaged checkpoint among these files; None if no file exists.

    `paths` begin with the newest. Damaged files before the undamaged one are renamed, with a warning. Raises
    `InputError` if all are damaged.
    """
    errors: dict[Path, InputError] = {}
    for path in filter(Path.is_file, paths):
        try:
            content = load_checkpoint(path)
        except InputError as error:
            errors[path] = error
            continue
        for damaged in errors:
            aside = damaged.with_suffix(".damaged")
            sys.stderr.write(f"warning: {damaged} is damaged: going on from {path}; it is now {aside.name}\n")
            damaged.replace(aside)  # otherwise the next save would replace the good file by this one
        return path, content
    for error in errors.values():
        raise error
    return None


def load_weights(
    network: nn.Module,
    weights: Mapping[str, torch.Tensor],
    path: str | Path,
    remedy: str = "give another checkpoint",
) -> None:
    """Load a checkpoint's weights; raises `InputError` if they belong to another network, or are not finite."""
    with as_input_error(path):
        try:
            network.load_state_dict(weights)  # compares shapes before it reads: a small file may claim a huge tensor
        except RuntimeError as error:
            first = shorten(" ".join(str(error).splitlines()[1:2]).rstrip("."), 200, placeholder=" ...")
            raise InputError(f"{path} is a checkpoint of another network ({first}): {remedy}") from error
    is_finite = all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values())
    require(is_finite, f"{path} holds weights that are not finite: its training diverged")


def digest(network: nn.Module) -> str:
    """The SHA-256 of all weights and buffers by name: equal for equal networks on any device."""
    hashed = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        hashed.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        hashed.update(value.detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()


def _rewritten(file: IO[bytes]) -> IO[bytes]:
    """A copy of a zip archive in memory. To make it, zipfile reads all contents and checks their checksums.

    torch checks no checksum. If a damaged bit says that a tensor is a folder, torch returns uninitialised memory.
    """
    clean = io.BytesIO()
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(clean, "w") as written:
        for part in archive.infolist():
            written.writestr(zipfile.ZipInfo(part.filename), archive.read(part))
    clean.seek(0)
    return clean
