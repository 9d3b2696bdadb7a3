"""Runs that are jobs, of `launcher=slurm` or `launcher=submitit_local`: their processes, and jobs that were lost."""

from __future__ import annotations

import os

import submitit
from submitit.core.utils import UncompletedJobError

LOST = "the other jobs go on; once they have ended, `compare.py runs` shows which runs are not finished"


def in_a_job() -> bool:
    """Whether submitit has started this process."""
    return "SUBMITIT_EXECUTOR" in os.environ


def join_tasks() -> None:
    """Make a job's tasks, where it has several, the processes of one run, by the variables that torchrun sets too."""
    if in_a_job() and submitit.JobEnvironment().num_tasks > 1:
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)


def failure(error: RuntimeError) -> str | None:
    """One line on a job that could not be submitted, or that left its launcher no result; None for another error."""
    if isinstance(error, UncompletedJobError):
        lines = str(error).splitlines()  # two on the job, then on what it wrote, and if that was to stderr, its end
        of_log = [lines[-1] if lines[2].startswith("Error stream") else lines[2]] if len(lines) > 2 else []
        return ": ".join([" ".join(lines[:2]), *of_log]) + f"; {LOST}"
    if "srun" in str(error):
        return "launcher=slurm, but there is no srun here: start it on a machine that gives jobs to SLURM"
    return None
