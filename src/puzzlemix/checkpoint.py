"""Checkpoints: one file that a run goes on from, and that a network is evaluated from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from puzzlemix.errors import InputError, require


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` (tensors, numbers, strings, and containers of them) so that `path` is always a whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    try:
        with open(unfinished, "wb") as file:
            torch.save(dict(content), file)
            file.flush()
            os.fsync(file.fileno())
    except RuntimeError as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # which torch answers with an error of its own
            raise error.__context__ from None
        raise
    os.replace(unfinished, path)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint, onto the CPU, without running any code that it might hold.

    Raises:
        InputError: it is not there, damaged, or not one of this repository's.
    """
    require(not Path(path).is_dir(), f"{path} is a folder: give a checkpoint, such as {path}/checkpoints/last.pt")
    require(Path(path).is_file(), f"{path} is not there: give a checkpoint, such as RUN/checkpoints/last.pt")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler stumbles over in a file that is cut short or foreign
        reason = type(error).__name__  # torch's message would advise to switch its safety off
        raise InputError(f"{path} is damaged or no checkpoint ({reason}): restore it, or delete it") from error
    known = isinstance(content, dict) and {"network", "config"} <= set(content)
    require(known, f"{path} is not a checkpoint of this repository: it lacks 'network' and 'config'")
    return content


def beside(checkpoint: str | Path, name: str) -> Path:
    """Where what is made of a checkpoint goes: `last.pt` -> `last_<name>`, in the same folder."""
    return Path(checkpoint).with_name(f"{Path(checkpoint).stem}_{name}")


def load_weights(network: nn.Module, weights: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Put a checkpoint's weights into a network.

    Raises:
        InputError: they are another network's.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = " ".join(str(error).splitlines()[1:2]).strip()
        raise InputError(f"{path} is a checkpoint of another network: {first}") from error


def keep_weights(checkpoint: Path, metrics: Mapping[str, Any], folder: Path = Path("models")) -> Path:
    """Copy a run's network, without what only training needs, to `models/`, with its metrics as a card beside it."""
    content = load_checkpoint(checkpoint)
    path = folder / f"{metrics['name']}_seed{metrics['seed']}.pt"
    save_checkpoint(path, {"config": content["config"], "network": content["network"]})
    path.with_suffix(".json").write_text(json.dumps(dict(metrics), indent=2) + "\n")
    return path
