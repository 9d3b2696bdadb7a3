"""Where Hydra looks for launchers: submitit's, which here wait for every job, whatever becomes of another."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher import submitit_launcher

from puzzlemix.cluster import errors_as_results
from puzzlemix.sweep import failure_from


class _WaitsForAll:
    """Gives what became of each job, also of one that failed, was killed, or left no result."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Start a job for each list of overrides, and wait for them."""
        with errors_as_results():
            returned = super().launch(job_overrides, initial_job_idx)
        return [_told(list(overrides), result) for overrides, result in zip(job_overrides, returned, strict=True)]


class LocalLauncher(_WaitsForAll, submitit_launcher.LocalLauncher):
    """Jobs as processes of this machine."""


class SlurmLauncher(_WaitsForAll, submitit_launcher.SlurmLauncher):
    """Jobs of SLURM."""


def _told(overrides: list[str], result: JobReturn | Exception) -> JobReturn:
    """What a job returned, or in its place the failure that the sweep reports."""
    try:
        if isinstance(result, Exception):
            raise result
        _ = result.return_value  # raises what the job did
        return result
    except Exception as error:
        told = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
        told.return_value = failure_from(error)
        return told
