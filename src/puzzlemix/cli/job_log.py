"""What is told of a sweep whose runs are jobs: in the terminal where jobs write, and there which run it is."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from puzzlemix.runtime.errors import InputError, RunError, one_line


class JobLog(Callback):
    """Hydra calls it in the launcher at the start of a sweep, and in each job."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Say where to look while jobs run."""
        print(f"each run is a job and writes to {Path(config.hydra.launcher.submitit_folder).parent}/", flush=True)

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Name the run."""
        print(*config.hydra.overrides.task, flush=True)

    def on_job_end(self, job_return: JobReturn, **_: Any) -> None:
        """Write an error down before Hydra brings it to the launcher, and add a bug's traceback, which Hydra leaves."""
        try:
            _ = job_return.return_value
        except (InputError, RunError) as error:
            print(one_line(error), file=sys.stderr)
        except Exception as bug:
            traceback.print_exc()
            bug.add_note(traceback.format_exc())
