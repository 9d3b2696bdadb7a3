"""What every script of `scripts/` shares: Hydra, and errors of one line with the nearest valid name."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import ConfigCompositionException, HydraException
from hydra.errors import MissingConfigException as MissingConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from puzzlemix.errors import InputError, RunError, nearest, require

GROUPS_THAT_TAKE_SEVERAL = ("attack",)  # attack=fgsm,pgd selects both; elsewhere Hydra reads a comma as a sweep


def script(config_name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Make `main(config)` a command that reads `configs/<config_name>.yaml` and overrides from the command line.

    `InputError` and `RunError` end it with one line on stderr and status 1; anything else is a bug and shows its
    traceback.
    """

    def decorate(main: Callable[[DictConfig], None]) -> Callable[[], None]:
        configs = Path(inspect.getfile(main)).resolve().parents[1] / "configs"

        def job(config: DictConfig) -> None:
            try:
                main(config)
            except (InputError, RunError) as error:
                _fail(error)

        def command() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # hand errors to us instead of printing them over many lines
            sys.argv[1:] = [_selection_of_several(argument) for argument in sys.argv[1:]]
            try:
                _check_overrides(configs, config_name, sys.argv[1:])
                hydra.main(version_base="1.3", config_path=str(configs), config_name=config_name)(job)()
            except (InputError, HydraException, OmegaConfBaseException) as error:
                _fail(error)

        return command

    return decorate


def _fail(error: Exception) -> None:
    same_everywhere = isinstance(error, InputError)
    if same_everywhere and os.environ.get("RANK", "0") != "0":
        sys.exit(1)
    sys.exit("error: " + " ".join(str(error).split()))


def _selection_of_several(argument: str) -> str:
    """`attack=fgsm,pgd` -> `attack=[fgsm,pgd]`."""
    group, _, options = argument.partition("=")
    if group in GROUPS_THAT_TAKE_SEVERAL and not options.startswith("["):
        return f"{group}=[{options}]"
    return argument


def _check_overrides(configs: Path, config_name: str, arguments: list[str]) -> None:
    """Compose the config once before Hydra does, to name what is wrong, and the nearest valid name, in one line."""
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    if len(overrides) < len(arguments):  # --help, --multirun, --cfg: Hydra's own; a sweep is checked job by job
        overrides = [o for o in overrides if "," not in o]
    is_group = {o: (configs / o.split("=")[0].lstrip("+~")).is_dir() for o in overrides}
    with hydra.initialize_config_dir(str(configs), version_base="1.3"):
        try:
            defaults = hydra.compose(config_name, [o for o in overrides if is_group[o]])
        except MissingConfig as error:
            raise InputError(_unknown_option(error)) from error
        for override in overrides:
            if is_group[override]:
                continue
            key, _, _ = override.partition("=")
            try:
                given = hydra.compose(config_name, [o for o in overrides if is_group[o]] + [override])
            except ConfigCompositionException as error:
                require(not _is_unknown(error), f"unknown config key '{key}'{nearest(key, _keys(defaults))}")
                raise
            if not key.startswith(("+", "~")):
                _check_type(key, OmegaConf.select(defaults, key), OmegaConf.select(given, key))


def _unknown_option(error: MissingConfig) -> str:
    """`unknown mixup 'puzlemix'; did you mean 'puzzlemix'?`"""
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    return f"unknown {group or 'config'} '{option}'{nearest(option, error.options or [])}"


def _is_unknown(error: Exception) -> bool:
    return re.search(r"Could not (override|delete)", str(error)) is not None


def _keys(config: DictConfig, prefix: str = "") -> list[str]:
    """All dotted keys of a config."""
    keys = []
    for key in config:
        keys.append(f"{prefix}{key}")
        if not OmegaConf.is_missing(config, key) and isinstance(OmegaConf.select(config, str(key)), DictConfig):
            keys += _keys(config[key], f"{prefix}{key}.")
    return keys


def _check_type(key: str, default: Any, value: Any) -> None:
    """Raise `InputError` where a number, list or switch is replaced by something else."""
    if default is None or value is None:
        return
    kinds = {bool: (bool, "true or false"), int: (int, "a whole number"), float: (int | float, "a number")}
    kinds |= {ListConfig: (ListConfig, "a list"), str: (str | int | float, "a name"), DictConfig: (DictConfig, "keys")}
    wanted, words = kinds[type(default)]
    fits = isinstance(value, wanted) and (isinstance(value, bool) <= isinstance(default, bool))
    shown = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    require(fits, f"{key}={shown}: expected {words}, such as {default}")
