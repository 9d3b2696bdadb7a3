"""Runs that are jobs, of `launcher=slurm` or `launcher=submitit_local`: their processes, and jobs that failed."""

from __future__ import annotations

import os

import submitit
from submitit.core.utils import UncompletedJobError


def in_a_job() -> bool:
    """Whether submitit has started this process."""
    return "SUBMITIT_EXECUTOR" in os.environ


def join_tasks() -> None:
    """Make a job's tasks, where it has several, the processes of one run, by the variables that torchrun sets too."""
    if in_a_job() and submitit.JobEnvironment().num_tasks > 1:
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)


def failure(error: RuntimeError) -> str | None:
    """One line on a job that could not be submitted, or that left no result to its launcher; None of other errors."""
    if isinstance(error, UncompletedJobError):
        what, _, log = str(error).partition("\nError stream produced:")
        return f"{what}: {log.splitlines()[-1]}" if log else what
    if "srun" in str(error):
        return "launcher=slurm, but there is no srun here: start it on a machine that gives jobs to SLURM"
    return None
