"""The objects that a run is made of, built from a config or from a checkpoint, which may be somebody else's."""

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from torch import nn

from puzzlemix.mixing import Mixer
from puzzlemix.runtime.checkpoint import as_input_error, load_checkpoint, load_weights
from puzzlemix.runtime.errors import InputError, require
from puzzlemix.runtime.nested import flatten
from puzzlemix.runtime.seeding import torch_seed
from puzzlemix.training.recipe import Recipe
from puzzlemix.training.settings import RESULT_DEPENDS_ON

NAMES = ("name", "table", "results_dir", "root")  # their values are text, which YAML may read as a number


class Experiment(NamedTuple):
    """The four parts of a run; the data is not loaded yet."""

    data: Any
    network: nn.Module
    mixer: Mixer
    recipe: Recipe


class Trained(NamedTuple):
    """The parts of a checkpoint's run, and its number of finished epochs (None if it was imported)."""

    experiment: Experiment
    epochs: int | None


def build(config: Mapping[str, Any]) -> Experiment:
    """Build the parts of a run; its seed sets the network's weights. Raises `InputError` if a value cannot work."""
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
    """Build the recipe of a config's `recipe`; raises `InputError` if a value cannot work."""
    for key, value in config.items():
        require(value is not None, f"recipe.{key} must not be null")
    try:
        return Recipe(**config)
    except TypeError as error:  # nothing has checked the values of a sweep before
        raise InputError(f"a value of recipe is of the wrong type: {error}") from error


def compose(configs: Path, overrides: Sequence[str]) -> DictConfig:
    """The config of `scripts/train.py` with these overrides; for use outside of scripts."""
    with hydra.initialize_config_dir(str(configs), version_base="1.3"):
        return hydra.compose("train", list(overrides))


def load_experiment(checkpoint: str, configs: Path, device: torch.device, with_data: bool = True) -> Trained:
    """Build the parts of a checkpoint's run on `device`, the network with its weights in eval mode, the data loaded.

    The checkpoint may be somebody else's: it can only run what the files in `configs` name (`check_targets`).

    Raises:
        InputError: the checkpoint is missing, damaged, not to be trusted, or does not fit its config; or the dataset is
            missing.
    """
    content = load_checkpoint(checkpoint)
    config, epochs = content["config"], content.get("epoch")
    check_targets(config, configs, checkpoint)
    if epochs is None and "imported_from" not in config:  # weights alone, which are kept after the last epoch
        epochs = config["recipe"].get("epochs")
    require(epochs is None or type(epochs) is int, f"{checkpoint} is damaged: its epoch is not a whole number")
    with as_input_error(checkpoint):
        experiment = build(config)
    load_weights(experiment.network, content["network"], checkpoint)
    experiment.network.to(device).eval()
    if with_data:
        experiment.data.load(device)
    return Trained(experiment, epochs)


def check_targets(config: Mapping[str, Any], configs: Path, source: str) -> None:
    """Raise `InputError` unless a config has all parts and makes Hydra call only what `configs` name.

    Hydra calls what a `_target_` names, at any depth, and obeys other keys that begin and end with an underscore. Each
    such key must be in one of the part's config files, in the same place and with the same value.

    Args:
        config: plain data (`nested.is_plain`).
        configs: the folder of the user's configs.
        source: the file that the config comes from.
    """
    foreign = f"{source} is not a checkpoint of this repository"
    for part in RESULT_DEPENDS_ON:
        theirs, folder = config.get(part), configs / part
        require(isinstance(theirs, dict), f"{foreign}: its config has no '{part}'")
        require(part == "recipe" or "_target_" in theirs, f"{foreign}: its config has no '{part}._target_'")
        ours = [yaml.safe_load(path.read_text()) for path in folder.glob("*.yaml")]
        trusted = [pair for each in ours for pair in _instructions(each)]
        for where, value in _instructions(theirs):
            named = f"{source} has {'.'.join((part, *where))}={str(value)[:100]} in its config"
            remedy = "nothing was run; add such a file if you trust it"
            require((where, value) in trusted, f"{named}, but no file in {folder} names it: {remedy}")
        require("${" not in json.dumps(theirs), f"{foreign}: its config has a reference (${{...}}), nothing was run")
    require("seed" in config, f"{foreign}: its config has no 'seed'")


def _instructions(node: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The keys of a config that Hydra obeys, such as `_target_`: the place of each, and its value."""
    if isinstance(node, dict | list | tuple):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            place = (*where, str(key))
            if place[-1].startswith("_") and place[-1].endswith("_"):
                yield place, value
            yield from _instructions(value, place)


def build_part(config: Mapping[str, Any]) -> Any:
    """Build the object of a config group by its `_target_`; raises `InputError` if the object refuses a value."""
    _check_torchvision()
    try:
        return hydra.utils.instantiate(config)
    except hydra.errors.InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, InputError):
            raise cause from error
        if isinstance(cause, TypeError | ValueError):
            values = ", ".join(f"{key}={json.dumps(value)}" for key, value in config.items() if key != "_target_")
            shown = values.replace('"', "")  # as in a config: null, true, [1, 2]
            raise InputError(f"{config['_target_']} does not take these values ({shown}): {cause}") from error
        raise


def plain(config: DictConfig) -> dict[str, Any]:
    """The config as plain containers, with references resolved; raises `InputError` if a value is missing (`???`)."""
    for key, value in flatten(OmegaConf.to_container(config)).items():
        require(value != "???", f"{key} must be given: add {key}=...")
    resolved = OmegaConf.to_container(config, resolve=True)
    for part in (resolved, resolved.get("dataset") or {}):
        part.update({key: str(part[key]) for key in NAMES if part.get(key) is not None})
    return resolved


def _check_torchvision() -> None:
    """Raise `InputError` if the installed torchvision does not load with the installed torch."""
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return  # only some datasets and networks need it, and those say so
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        problem = f"torchvision does not load with torch {torch.__version__} ({str(error).splitlines()[0]})"
        remedy = "install matching releases from one place, `pip install -r requirements.txt`"
        raise InputError(f"{problem}: {remedy}") from error
