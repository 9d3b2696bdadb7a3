"""A sweeper that checks all runs before the first and reports on them after the last: see `puzzlemix.cli.sweep`.

Hydra imports this file at the start of every program that uses Hydra, so importing it imports nothing but Hydra.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn


class ReportingSweeper(BasicSweeper):
    """A run for every combination of the given values. If a run fails, the others still run.

    Raises:
        InputError: the config of a run cannot work, as far as the script can tell; no run has begun.
        RunError: a run failed.
    """

    def setup(self, *, task_function: Any, **rest: Any) -> None:
        """Take the script's `check` from its task: see `cli.script`."""
        super().setup(task_function=task_function, **rest)
        self._check = task_function.check

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose and check the config of every run, before the first batch of runs."""
        from puzzlemix.cli import sweep

        if batch is self.overrides[0]:
            load = self.hydra_context.config_loader.load_sweep_config
            sweep.check_runs((load(self.config, list(run)) for run in chain.from_iterable(self.overrides)), self._check)

    def sweep(self, arguments: list[str]) -> Sequence[Sequence[JobReturn]]:
        """Launch all runs, and end with an error if one failed."""
        from puzzlemix.cli import sweep

        batches = super().sweep(arguments)
        sweep.report(list(chain.from_iterable(batches)))
        return batches
