"""The runs of a sweep: all are checked before the first begins, and errors are reported after the last."""

import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from puzzlemix.runtime import distributed
from puzzlemix.runtime.errors import InputError, RunError, error_line, require
from puzzlemix.training.settings import key_of

CHOICES = "hydra:runtime.choices."  # how references to the chosen option of a group begin


def goes_on_after_errors() -> bool:
    """Whether the sweep goes on if this run fails. It ends if the run has several processes: the others would wait."""
    return HydraConfig.get().mode == RunMode.MULTIRUN and distributed.world_size() == 1


def note_failure(error: Exception) -> str:
    """Write a run's error to stderr, with the traceback of a bug, and return its line for `report`."""
    line = error_line(error)
    is_bug = not isinstance(error, InputError | RunError)
    sys.stderr.write(traceback.format_exc() if is_bug else line + "\n")
    return line


def check_runs(configs: Iterable[DictConfig], check: Callable[[DictConfig], Path | None]) -> None:
    """Check each run of a sweep before the first begins, and that each has a folder of its own.

    Args:
        configs: the configs of the runs, with Hydra's part.
        check: see `cli.script`.

    Raises:
        InputError: `check` raises it, or two runs would share a folder.
    """
    by_folder: dict[Path, list[dict[str, str]]] = {}
    for config in configs:
        folder, values = _plan(config, check)
        if folder is not None:
            by_folder.setdefault(folder, []).append(values)
    for folder, runs in by_folder.items():
        if len(runs) > 1:
            keys = _varying(runs)
            require(bool(keys), f"two runs of this sweep are the same, in {folder}: give each value once")
            shown = " and ".join(key.removeprefix(CHOICES) for key in keys)
            name = _name_for(_varying([run for group in by_folder.values() for run in group]))
            raise InputError(f"runs that differ in {shown} would share the folder {folder}: add {shlex.quote(name)}")


def _plan(config: DictConfig, check: Callable[[DictConfig], Path | None]) -> tuple[Path | None, dict[str, str]]:
    """The folder of a run, and the values of the given keys, by the names that references use for these keys."""
    own, before = config.copy(), HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)  # so that ${hydra:...} refers to this run
    try:
        with read_write(own), open_dict(own):
            del own["hydra"]
        groups, values = config.hydra.runtime.choices, {}
        for key in map(key_of, config.hydra.overrides.task):
            name = CHOICES + key if key in groups else key
            values[name] = str(groups[key] if key in groups else OmegaConf.select(own, key))
        return check(own), values
    finally:
        HydraConfig.instance().cfg = before


def _varying(runs: Sequence[Mapping[str, str]]) -> list[str]:
    """The keys that have several values in these runs."""
    return [key for key, value in runs[0].items() if any(run[key] != value for run in runs)]


def _name_for(keys: Sequence[str]) -> str:
    """The override that adds the values of these keys to each run's default name."""
    others = [key for key in keys if key not in ("name", "seed", "results_dir", f"{CHOICES}mixup")]
    return 'name="${table}_${choices.mixup}' + "".join(f"_{key.rpartition('.')[2]}_${{{key}}}" for key in others) + '"'


def report(runs: Sequence[JobReturn]) -> None:
    """Print how many runs of a sweep finished, and the error line that each failed one has returned.

    Raises:
        InputError: the sweep has no runs.
        RunError: a run failed.
    """
    require(bool(runs), "the sweep has no runs: give each key at least one value")
    failed = [(run.overrides, run.return_value) for run in runs if run.return_value is not None]
    distributed.print_once(f"sweep: {len(runs) - len(failed)} of {len(runs)} runs finished")
    common = set.intersection(*(set(run.overrides) for run in runs))
    for overrides, line in failed:
        own = " ".join(override for override in overrides if override not in common) or "the only run"
        distributed.print_once(f"  {own}: {line}")
    if failed:
        raise RunError(f"{len(failed)} of {len(runs)} runs failed, see above: correct them, and start the sweep again")
