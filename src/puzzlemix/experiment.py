"""From a resolved config to the objects that a run is made of. Scripts read what is typed by `cli.py`."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from puzzlemix.checkpoint import load_checkpoint, load_weights
from puzzlemix.errors import InputError, require
from puzzlemix.mixing import Mixer
from puzzlemix.nested import flatten
from puzzlemix.recipe import Recipe
from puzzlemix.settings import RESULT_DEPENDS_ON, settings
from puzzlemix.streams import torch_seed

NAMED = ("name", "table", "results_dir", "root")  # of which YAML reads some, such as 2024, as numbers


class Experiment(NamedTuple):
    """The four things that a run puts together; the data not yet loaded."""

    data: Any
    network: nn.Module
    mixer: Mixer
    recipe: Recipe


class Trained(NamedTuple):
    """The parts of a run as a checkpoint has them, and for how many whole epochs; None of one that was imported."""

    experiment: Experiment
    epochs: int | None


def build(config: Mapping[str, Any]) -> Experiment:
    """Make the parts of a run. The network's weights follow from the seed.

    Raises:
        InputError: a value in the config cannot work.
    """
    recipe = build_recipe(config["recipe"])
    data = build_part(config["dataset"])
    for part in ("network", "mixup"):
        classes = config[part].get("num_classes", data.num_classes)
        fits = classes == data.num_classes
        require(fits, f"{part}.num_classes is {classes}, but {data.name} has {data.num_classes} classes: leave it out")
    torch.manual_seed(torch_seed("weights", config["seed"]))
    network = build_part(config["network"])
    mixer = build_part(config["mixup"])
    if data.unclipped:
        remedy = f"but {data.name}'s are not clipped: set dataset.color_jitter=0 dataset.lighting=0"
        require(not mixer.needs_clipped, f"{type(mixer).__name__} needs pixels in [0, 1], {remedy}")
        mixer.overshoot = inf
    mixer.check(network, *data.image_size)
    return Experiment(data, network, mixer, recipe)


def build_recipe(config: Mapping[str, Any]) -> Recipe:
    """The recipe that a config's `recipe` describes.

    Raises:
        InputError: a value cannot work.
    """
    for key, value in config.items():
        require(value is not None, f"recipe.{key} must not be null")
    try:
        return Recipe(**config)
    except TypeError as error:  # in a sweep, whose values nobody has looked at
        raise InputError(f"a value of recipe is of the wrong type: {error}") from error


def compose(configs: Path, overrides: Sequence[str]) -> DictConfig:
    """What `scripts/train.py` would be given with these overrides, outside any script."""
    with hydra.initialize_config_dir(str(configs), version_base="1.3"):
        return hydra.compose("train", list(overrides))


@cache
def composed_settings(experiment: str) -> dict[str, Any]:
    """The `settings` of a run of an experiment's file as it stands; of the scripts' configs, inside a script."""
    config = hydra.compose("train", [f"experiment={experiment}"])
    parts = {key: OmegaConf.to_container(config[key], resolve=True) for key in RESULT_DEPENDS_ON}
    return settings({**parts, "precision": config.precision})


def load_experiment(checkpoint: str, device: torch.device, with_data: bool = True) -> Trained:
    """The parts of the run that a checkpoint came from, with its weights, in eval mode, on `device`; the data loaded.

    Raises:
        InputError: the checkpoint is missing, damaged or does not fit its config, or the dataset is not there.
    """
    content = load_checkpoint(checkpoint)
    experiment = build(content["config"])
    load_weights(experiment.network, content["network"], checkpoint)
    experiment.network.to(device).eval()
    if with_data:
        experiment.data.load(device)
    epochs = content.get("epoch")
    if epochs is None and "imported_from" not in content["config"]:  # weights alone, which are kept after the last
        epochs = experiment.recipe.epochs
    return Trained(experiment, epochs)


def build_part(config: Mapping[str, Any]) -> Any:
    """The object that a config group describes: `_target_` called with the rest.

    Raises:
        InputError: its library does not load, or its constructor refuses a value.
    """
    try:
        return hydra.utils.instantiate(config)
    except hydra.errors.InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, InputError):
            raise cause from error
        if isinstance(cause, TypeError | ValueError):
            values = ", ".join(f"{key}={_in_yaml(value)}" for key, value in config.items() if key != "_target_")
            raise InputError(f"{config['_target_']} does not take these values ({values}): {cause}") from error
        raise


def _in_yaml(value: Any) -> str:
    """As one would write it in a config: null, true, [1, 2]."""
    return json.dumps(value).replace('"', "")


def plain(config: DictConfig) -> dict[str, Any]:
    """The config with all references resolved, as dicts, lists and numbers; what `NAMED` lists as text.

    Raises:
        InputError: a value that has no default (`???`) was not given.
    """
    for key, value in flatten(OmegaConf.to_container(config)).items():
        require(value != "???", f"{key} must be given: add {key}=...")
    resolved = OmegaConf.to_container(config, resolve=True)
    if resolved.get("dataset"):
        resolved["dataset"] = _with_text_names(resolved["dataset"])
    return _with_text_names(resolved)


def _with_text_names(part: Mapping[str, Any]) -> dict[str, Any]:
    return {key: str(value) if key in NAMED and value is not None else value for key, value in part.items()}


def check_torchvision() -> None:
    """Raise `InputError` where the installed torchvision does not load with the installed torch."""
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return  # only some datasets and networks need it, and they say so
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"torchvision does not load with torch {torch.__version__} ({reason}): install matching releases from one "
            "place, `pip install -r requirements.txt`"
        ) from error
