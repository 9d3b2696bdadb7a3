"""Runs that are jobs, of `launcher=slurm` or `launcher=submitit_local`: their processes, and jobs that failed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, UncompletedJobError


def in_a_job() -> bool:
    """Whether submitit has started this process."""
    return "SUBMITIT_EXECUTOR" in os.environ


def join_tasks() -> None:
    """Make a job's tasks, where it has several, the processes of one run, by the variables that torchrun sets too."""
    if in_a_job() and submitit.JobEnvironment().num_tasks > 1:
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)


@contextmanager
def errors_as_results() -> Iterator[None]:
    """Within, a job that failed or was lost gives its error as its result, so that the others are waited for too.

    Hydra's launcher asks the jobs one after the other and cannot be told how.
    """
    results = submitit.Job.results

    def results_or_error(job: submitit.Job) -> list[Any]:
        try:
            found = results(job)
        except (UncompletedJobError, FailedJobError) as error:
            return [error]
        return [task for task in found if isinstance(task, Exception)] or found

    submitit.Job.results = results_or_error
    try:
        yield
    finally:
        submitit.Job.results = results


def failure(error: RuntimeError) -> str | None:
    """One line on a job that could not be submitted, or that left no result to its launcher; None of other errors."""
    if isinstance(error, UncompletedJobError):
        lines = str(error).splitlines()  # two on the job, then on what it wrote, and if that was to stderr, its end
        of_log = [lines[-1] if lines[2].startswith("Error stream") else lines[2]] if len(lines) > 2 else []
        return ": ".join([" ".join(lines[:2]), *of_log])
    if "srun" in str(error):
        return "launcher=slurm, but there is no srun here: start it on a machine that gives jobs to SLURM"
    return None
