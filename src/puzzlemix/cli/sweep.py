"""The runs of a sweep: all are checked before the first, and the errors of failed ones are reported at the end."""

import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import JobReturn
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from puzzlemix.cli.overrides import key_of
from puzzlemix.runtime import distributed
from puzzlemix.runtime.errors import InputError, RunError, error_line, require


def goes_on_after_errors() -> bool:
    """Whether this is a run of a sweep that can go on without it; other processes of the run would wait for it."""
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
        configs: of the runs, with Hydra's part.
        check: see `cli.script`.

    Raises:
        InputError: `check` raises it, or two runs would share a folder.
    """
    runs = [_plan(config, check) for config in configs]
    differing: dict[str, Path] = {}
    for folder in dict.fromkeys(run.folder for run in runs if run.folder is not None):
        values = [run.values for run in runs if run.folder == folder]
        is_repeated = any(values.count(one) > 1 for one in values)
        require(not is_repeated, f"two runs of this sweep are the same, in {folder}: give each value once")
        differing |= dict.fromkeys(_varying(values), folder)
    if differing:
        keys = " and ".join(key.removeprefix("hydra:runtime.choices.") for key in differing)
        folder, name = next(iter(differing.values())), shlex.quote(_name_for(runs, [*differing]))
        raise InputError(f"runs that differ in {keys} would share the folder {folder}: add {name}")


class _Planned(NamedTuple):
    folder: Path | None
    name: str  # with its references, such as ${table}_${choices.mixup}
    values: dict[str, str]  # of the given keys, by the names that references have for them


def _plan(config: DictConfig, check: Callable[[DictConfig], Path | None]) -> _Planned:
    """The folder and the values of a run, from its config, in which ${hydra:...} refers to this run."""
    own, before = config.copy(), HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)
    try:
        with read_write(own), open_dict(own):
            del own["hydra"]
        chosen, values = config.hydra.runtime.choices, {}
        for key in map(key_of, config.hydra.overrides.task):
            if key in chosen:
                values[f"hydra:runtime.choices.{key}"] = str(chosen[key])
            else:
                values[key] = str(OmegaConf.select(own, key))
        return _Planned(check(own), str(OmegaConf.to_container(own).get("name")), values)
    finally:
        HydraConfig.instance().cfg = before


def _varying(runs: Sequence[Mapping[str, str]]) -> list[str]:
    """The keys that have several values in these runs."""
    return [key for key, value in runs[0].items() if any(run[key] != value for run in runs)]


def _name_for(runs: Sequence[_Planned], references: Sequence[str]) -> str:
    """The override that gives each run a name of its own."""
    name = runs[0].name
    if any(run.name != name for run in runs):  # the runs belong to several experiments, each with its own name
        varying = _varying([run.values for run in runs])
        name, references = "${table}", [key for key in varying if key not in ("name", "seed", "results_dir")]
    name += "".join(f"_{key.rpartition('.')[2]}_${{{key}}}" for key in references)
    return f"name={QuotedString(name, Quote.double).with_quotes()}"


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
        raise RunError(f"{len(failed)} of {len(runs)} runs failed, see above: mend what they say, and start it again")
