"""A sweep's runs: one that fails is told at once and again at the end, and the others go on."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.types import RunMode

from puzzlemix import cluster, distributed
from puzzlemix.errors import InputError, RunError, require, told


class Failure(NamedTuple):
    """What a run of a sweep returns where it would raise by itself; it goes from a job to the launcher."""

    line: str


def goes_on_after_errors() -> bool:
    """Whether this run is one of a sweep that can go on without it: its other processes, if any, may wait for it."""
    return HydraConfig.get().mode == RunMode.MULTIRUN and distributed.world_size() == 1


def failure_of(error: Exception) -> Failure:
    """Write a run's error to stderr, a bug's with its traceback, as it happens."""
    failure = failure_from(error)
    expected = isinstance(error, InputError | RunError)
    sys.stderr.write(failure.line + "\n" if expected else traceback.format_exc())
    return failure


def failure_from(error: Exception) -> Failure:
    """A run's error, or that of its job, in one line."""
    of_job = cluster.failure(error) if isinstance(error, RuntimeError) else None
    return Failure(told(error) if of_job is None else f"error: {of_job}")


def report(runs: Sequence[JobReturn]) -> None:
    """Say what became of a sweep.

    Raises:
        InputError: it has no runs.
        RunError: a run failed.
    """
    require(bool(runs), "the sweep has no runs: give each key at least one value")
    failed = [(run.overrides, run.return_value) for run in runs if isinstance(run.return_value, Failure)]
    distributed.print_once(f"sweep: {len(runs) - len(failed)} of {len(runs)} runs finished")
    common = set.intersection(*(set(run.overrides) for run in runs))
    for overrides, failure in failed:
        own = " ".join(override for override in overrides if override not in common) or "the only one"
        distributed.print_once(f"  {own}: {failure.line}")
    if failed:
        raise RunError(f"{len(failed)} of {len(runs)} runs failed, see above: mend what they say, and start it again")
