"""Runs as jobs of `launcher=slurm` or `launcher=submitit_local`: their processes, their logs, and lost jobs."""

import os
import sys
import traceback
from pathlib import Path
from typing import Any

import submitit
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from submitit.core.utils import UncompletedJobError

from puzzlemix.runtime.errors import InputError, RunError, error_line

LOST = "the other jobs go on; once they have ended, `compare.py runs` shows which runs are not finished"


def is_job() -> bool:
    """Whether submitit has started this process."""
    return "SUBMITIT_EXECUTOR" in os.environ


def join_tasks() -> None:
    """Make the tasks of a job the processes of one run, by the variables that torchrun also sets."""
    if is_job() and submitit.JobEnvironment().num_tasks > 1:
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)


def lost_job(error: RuntimeError) -> str | None:
    """One line about a job that could not be submitted, or that left no result; None for any other error."""
    if isinstance(error, UncompletedJobError):
        lines = str(error).splitlines()  # two about the job, then one about its output, then perhaps its stderr
        of_log = [lines[-1] if lines[2].startswith("Error stream") else lines[2]] if len(lines) > 2 else []
        return ": ".join([" ".join(lines[:2]), *of_log]) + f"; {LOST}"
    if "srun" in str(error):
        return "launcher=slurm, but there is no srun here: start it on a machine that can submit jobs to SLURM"
    return None


class JobLog(Callback):
    """The messages of a sweep of jobs, in the launcher's terminal and in each job's log. Hydra calls this in both."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Print the folder to look into while jobs run."""
        print(f"each run is a job and writes to {Path(config.hydra.launcher.submitit_folder).parent}/", flush=True)

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Print the overrides that make this run."""
        print(*config.hydra.overrides.task, flush=True)

    def on_job_end(self, job_return: JobReturn, **_: Any) -> None:
        """Print an error before Hydra sends it to the launcher. Add a bug's traceback, which Hydra would not send."""
        try:
            _ = job_return.return_value
        except (InputError, RunError) as error:
            print(error_line(error), file=sys.stderr)
        except Exception as bug:
            traceback.print_exc()
            bug.add_note(traceback.format_exc())
