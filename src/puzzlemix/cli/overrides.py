"""The arguments of a script: overrides and flags of Hydra, completed and checked before Hydra reads them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args
from omegaconf import DictConfig, OmegaConf

from puzzlemix.runtime.errors import nearest, require
from puzzlemix.runtime.nested import flatten
from puzzlemix.training.settings import key_of

SEVERAL = re.compile(r"^attack=([^\[].*)")  # attack=fgsm,pgd selects both; in other groups a comma makes a sweep


def complete(arguments: Sequence[str]) -> list[str]:
    """The arguments for Hydra: `attack=[fgsm,pgd]` for `attack=fgsm,pgd`, and --multirun with a `sweep=`."""
    completed = [SEVERAL.sub(r"attack=[\1]", argument) for argument in arguments]
    return [*completed, "--multirun"] if any(argument.startswith("sweep=") for argument in completed) else completed


def check(configs: Path, config_name: str, arguments: Sequence[str]) -> None:
    """Compose the config before Hydra does, so that an error is one line, with the nearest valid name.

    Args:
        configs: the folder of configs; its folders are the groups.
        config_name: the name of the script's own file there.
        arguments: those that `complete` gives.

    Raises:
        InputError: a flag, key, option or type of value does not fit.
    """
    given = get_args(list(arguments))
    require(not (given.cfg and given.multirun), "--cfg shows the config of one run: leave out sweep= and -m")
    overrides = given.overrides
    for override in overrides:
        fits = "=" in override or override.startswith("~")
        require(fits, f"'{override}' is not an override: write key=value, such as mixup=puzzlemix")
    groups = [override for override in overrides if (configs / key_of(override)).is_dir()]
    chosen = default_options(configs / f"{config_name}.yaml")
    for override in groups:
        group, _, selected = override.lstrip("+~").partition("=")
        _check_options(configs / group, selected, may_be_null=chosen.get(group, "") is None)
    if given.multirun:  # the values of a sweep are checked run by run
        groups, overrides = ([o for o in some if "," not in o] for some in (groups, overrides))
    with hydra.initialize_config_dir(str(configs), version_base="1.3"):
        _check_values(config_name, groups, [override for override in overrides if override not in groups])


def options(group: Path) -> list[str]:
    """The names of the options of a group of configs."""
    return sorted(path.stem for path in group.glob("*.yaml"))


def default_options(config: Path) -> dict[str, Any]:
    """The option of each group that a config's file selects; None for one that is null, such as `experiment: null`."""
    defaults = OmegaConf.to_container(OmegaConf.load(config).defaults)
    return {group: option for default in defaults if isinstance(default, dict) for group, option in default.items()}


def _check_options(group: Path, selected: str, may_be_null: bool) -> None:
    """Raise `InputError` unless every option in `a`, `a,b` or `[a,b]` is a file of the group."""
    valid = options(group)
    for option in selected.strip("[]").split(","):
        is_known = option in valid or (option == "null" and may_be_null)
        require(is_known, f"unknown {group.name} '{option}'{nearest(option, valid)}")


def _check_values(config_name: str, groups: list[str], others: Sequence[str]) -> None:
    """Raise `InputError` if the config of these groups lacks a key, or has a value of another type for it."""
    changes = [override.lstrip("+") for override in others if "=" in override]
    for key in map(key_of, changes):
        if key.startswith("hydra.launcher."):
            _check_launcher_key(key, hydra.compose(config_name, groups, return_hydra_config=True))
    ours = [change for change in changes if not change.startswith(("hydra", "~"))]  # ~ deletes a key
    values = flatten(OmegaConf.to_container(hydra.compose(config_name, groups)))
    for key in map(key_of, ours):
        require(key in values, f"unknown config key '{key}'{nearest(key, values)}")
    given = flatten(OmegaConf.to_container(hydra.compose(config_name, [*groups, *ours])))
    for key in map(key_of, ours):
        _check_type(key, values[key], given.get(key))


def _check_launcher_key(key: str, config: DictConfig) -> None:
    """Raise `InputError` unless the selected launcher has this setting."""
    valid = [f"hydra.launcher.{name}" for name in config.hydra.launcher if name != "_target_"]
    require(bool(valid), f"{key} is of no use without a launcher: add launcher=slurm")
    require(".".join(key.split(".")[:3]) in valid, f"unknown config key '{key}'{nearest(key, valid)}")


def _check_type(key: str, default: Any, value: Any) -> None:
    """Raise `InputError` if a value replaces a number, list or switch of another type, or is null at the top level.

    Each part of a run checks whether its own values may be null (`mixup.t_size=null`).
    """
    kinds = {bool: (bool, "true or false"), int: (int, "a whole number"), float: (int | float, "a number")}
    kinds |= {list: (list, "a list"), str: (str | int | float, "a name")}
    if default is None or "${" in str(default) or (value is None and "." in key):
        return  # there is no type to compare with
    require(value is not None or default != "???", f"{key} must be given: add {key}=...")
    wanted, words = kinds[type(default)]
    fits = isinstance(value, wanted) and isinstance(value, bool) == isinstance(default, bool)
    example = str(default).lower() if isinstance(default, bool) else default
    given = "null" if value is None else value
    require(fits, f"{key}={given}: expected {words}, such as {example}")
