"""The files of `configs/experiment/`, as far as comparing needs them: read, and composed only where it must be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from puzzlemix.cli.config import composed_settings


class ExperimentFile(NamedTuple):
    """What a file selects, by the names of the options.

    Attributes:
        name: of the file and of its runs.
        dataset: the option of `dataset`.
        network: the option of `network`.
        method: the option of `mixup`.
    """

    name: str
    dataset: str
    network: str
    method: str

    @property
    def choices(self) -> dict[str, str]:
        """The options that a run keeps in its config."""
        return {"network": self.network, "mixup": self.method}

    @property
    def table(self) -> str:
        """The table that its runs stand in."""
        return f"{self.dataset}_{self.network}"

    def settings(self) -> dict[str, Any]:
        """What the results of its runs depend on, flat; inside a script, since Hydra composes it, which is slow."""
        return composed_settings(self.name)


def experiment_files(folder: Path) -> list[ExperimentFile]:
    """All of a folder, in the order of their names."""
    files = []
    for path in sorted(folder.glob("*.yaml")):
        defaults = yaml.safe_load(path.read_text())["defaults"]
        chosen = {key.removeprefix("override /"): option for entry in defaults for key, option in entry.items()}
        files.append(ExperimentFile(path.stem, chosen["dataset"], chosen["network"], chosen["mixup"]))
    return files
