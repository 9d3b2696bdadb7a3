"""Checkpoints: files that a run goes on from, and that a network is evaluated from. Each is whole or not there."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from torch import nn

from puzzlemix.errors import InputError, RunError, require
from puzzlemix.files import whole_file, write_text
from puzzlemix.model_card import model_card
from puzzlemix.settings import RESULT_DEPENDS_ON, fingerprint

LARGEST_CONFIG, DEEPEST_CONFIG = 100_000, 20  # values and characters, levels of nesting: no run's config comes near


def save_checkpoint(path: Path, content: Mapping[str, Any], previous: Path | None = None) -> None:
    """Write `content` (tensors, numbers, strings, and containers of them) so that `path` is never half there.

    The file that was there becomes `previous`, where one is wanted, once the new one is complete.

    Raises:
        RunError: it cannot be written; all files are as they were.
    """
    with whole_file(path, previous) as file:
        try:
            torch.save(dict(content), file)
        except RuntimeError as error:  # which says nothing of why
            if isinstance(error.__context__, OSError | KeyboardInterrupt):
                raise error.__context__ from None
            raise


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint, onto the CPU, without running any code that it might hold.

    Its `config` is plain data (`is_plain`). The rest is as the file has it.

    Raises:
        InputError: it is not there, damaged, or not one of this repository's.
    """
    require(not Path(path).is_dir(), f"{path} is a folder: give a checkpoint, such as {path}/checkpoints/last.pt")
    require(Path(path).is_file(), f"{path} is not there: give a checkpoint, such as RUN/checkpoints/last.pt")
    try:
        with open(path, "rb") as file:
            content = torch.load(_rewritten(file), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler stumbles over in a file that is cut short or foreign
        reason = type(error).__name__  # torch's message would advise to switch its safety off
        reason += f": {error}" if isinstance(error, zipfile.BadZipFile) else ""
        raise InputError(f"{path} is damaged or no checkpoint ({reason}): restore it, or delete it") from error
    known = isinstance(content, dict) and {"network", "config"} <= set(content)
    require(known, f"{path} is not a checkpoint of this repository: it lacks 'network' and 'config'")
    of_a_run = isinstance(content["config"], dict) and is_plain(content["config"])
    require(of_a_run, f"{path} is not a checkpoint of this repository: its 'config' is no run's")
    return content


@contextmanager
def as_input(path: str | Path) -> Iterator[None]:
    """Raise `InputError` for any error that a file's content causes inside: the file may be anybody's."""
    try:
        yield
    except (InputError, RunError):
        raise
    except Exception as error:
        shown = f"{type(error).__name__}: {error}"[:200]
        raise InputError(f"{path} does not work here ({shown}): give a checkpoint of this repository") from error


def is_plain(value: Any) -> bool:
    """Whether this is what a config may be: text, numbers, and lists and dicts of them, not many and not deep.

    A few lists that hold each other several times would be many to go through, so the size is checked on the way.
    """
    waiting, size = [(value, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        if type(value) is dict and all(type(key) is str for key in value):
            inner = [*value, *value.values()]
        elif type(value) in (list, tuple):
            inner = value
        elif value is None or type(value) in (bool, int, float, str):
            inner = []
        else:
            return False
        size += len(value) if type(value) is str else len(inner)
        if size > LARGEST_CONFIG or depth > DEEPEST_CONFIG:
            return False
        waiting += [(each, depth + 1) for each in inner]
    return True


class Loaded(NamedTuple):
    """A checkpoint, and what there was to say about newer ones."""

    path: Path
    content: dict[str, Any]
    damaged: list[Path]


def load_newest(paths: Sequence[Path]) -> Loaded | None:
    """The first checkpoint that is whole, of several, the newest first; None where there is none.

    Raises:
        InputError: there are some, and all are damaged.
    """
    errors: dict[Path, InputError] = {}
    for path in paths:
        if not path.is_file():
            continue
        try:
            return Loaded(path, load_checkpoint(path), list(errors))
        except InputError as error:
            errors[path] = error
    if errors:
        raise next(iter(errors.values()))
    return None


def beside(checkpoint: str | Path, name: str) -> Path:
    """Where what is made of a checkpoint goes: `last.pt` -> `last_<name>`, in the same folder."""
    return Path(checkpoint).with_name(f"{Path(checkpoint).stem}_{name}")


def load_weights(network: nn.Module, weights: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Put a checkpoint's weights into a network.

    Raises:
        InputError: they are another network's, or not finite.
    """
    with as_input(path):
        try:
            network.load_state_dict(weights)  # first, since it compares shapes: a small file may hold a huge tensor
        except RuntimeError as error:
            first = " ".join(str(error).splitlines()[1:2]).strip()
            raise InputError(f"{path} is a checkpoint of another network: {first}") from error
    finite = all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values())
    require(finite, f"{path} holds weights that are not finite: its training diverged")


def kept_path(run: Mapping[str, Any]) -> Path:
    """Where weights are kept of a run with this `name` and `seed`."""
    return Path("models") / f"{run['name']}_seed{run['seed']}.pt"


def check_kept(config: Mapping[str, Any]) -> None:
    """Raise `InputError` where weights of another config, or what is none, are kept in the place of this run's."""
    path = kept_path(config)
    if not path.exists():
        return
    theirs = load_checkpoint(path)["config"]
    of_a_run = {*RESULT_DEPENDS_ON, "precision"} <= set(theirs)  # and not imported
    ours = of_a_run and fingerprint(theirs) == fingerprint(config)
    require(ours, f"{path} holds weights of another config: give another name=, or move it, its .json and its .md")


def keep_weights(checkpoint: Path, metrics: Mapping[str, Any]) -> Path:
    """Copy a run's network, without what only training needs, to `models/`, its metrics and a card beside it."""
    content = load_checkpoint(checkpoint)
    path = kept_path(metrics)
    save_checkpoint(path, {"config": content["config"], "network": content["network"]})
    write_text(path.with_suffix(".json"), json.dumps(dict(metrics), indent=2) + "\n")
    write_text(path.with_suffix(".md"), model_card(path, content["config"], metrics))
    return path


def digest(network: nn.Module) -> str:
    """SHA-256 of all weights and buffers, by name: equal for equal networks, wherever they lie."""
    hashed = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        hashed.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        hashed.update(value.detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()


def stored_parts(file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """Name and content of each part of a zip archive that torch wrote, both checked for damage.

    Raises:
        BadZipFile: it is damaged, or its parts are compressed or overlap, so that they may unfold to any size.
        Exception: any other error that zipfile raises on damage.
    """
    size = file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
        if not stored or sum(part.file_size for part in parts) > size:
            raise zipfile.BadZipFile(
                "compressed or overlapping, which torch's files are not: it may unfold to any size"
            )
        for part in parts:
            yield part.filename, archive.read(part)


def _rewritten(file: IO[bytes]) -> IO[bytes]:
    """The same archive, in memory, written again from nothing but its names and contents.

    torch trusts the rest of an archive without a check: where a damaged bit says that a tensor is a folder, it returns
    uninitialised memory.
    """
    clean = io.BytesIO()
    with zipfile.ZipFile(clean, "w") as archive:
        for name, content in stored_parts(file):
            archive.writestr(zipfile.ZipInfo(name), content)
    clean.seek(0)
    return clean
