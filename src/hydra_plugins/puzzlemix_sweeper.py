"""Where Hydra looks for sweepers: its own, which here checks all runs before the first and reports on them last."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn

from puzzlemix.cli.sweep import check_runs, report


class ReportingSweeper(BasicSweeper):
    """Every combination of the values that were given, each a run; one that fails does not keep the others from theirs.

    Raises:
        InputError: a run's config cannot work, as far as the script can tell; none has begun.
        RunError: a run failed.
    """

    def setup(self, *, task_function: Any, **rest: Any) -> None:
        """Take the script's `check` from its task: see `cli.script`."""
        super().setup(task_function=task_function, **rest)
        self._check = task_function.check

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Before the first batch compose the config of every run, and check them all."""
        if batch is self.overrides[0]:
            load = self.hydra_context.config_loader.load_sweep_config
            check_runs((load(self.config, list(run)) for run in chain.from_iterable(self.overrides)), self._check)

    def sweep(self, arguments: list[str]) -> Sequence[Sequence[JobReturn]]:
        """Launch all runs, and end with an error if one failed."""
        batches = super().sweep(arguments)
        report(list(chain.from_iterable(batches)))
        return batches
