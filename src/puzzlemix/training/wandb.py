"""A run's page at Weights & Biases: config, curves, pictures, the final table and the checkpoint."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from puzzlemix.runtime.nested import flatten


class WandbRun:
    """The writer of one page. A run that was stopped and goes on writes to the same page.

    Args:
        config: the resolved config; its `logger.wandb` is the mode, online or offline.
        config_hash: the hash of the settings, so that another config has another page.
        folder: the run's folder.
    """

    def __init__(self, config: Mapping[str, Any], config_hash: str, folder: Path):
        name = f"{config['name']}-seed{config['seed']}"
        self._name = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)  # wandb refuses other characters
        page = hashlib.sha256(f"{name} {config_hash}".encode()).hexdigest()
        self._run = wandb.init(
            project="puzzlemix",
            name=name,
            id=f"{self._name[:100]}-{page[:8]}",
            dir=folder,
            mode=config["logger"]["wandb"],
            resume="allow",
            config=dict(config),
        )

    def log_epoch(self, record: Mapping[str, Any]) -> None:
        """Add a point to every curve."""
        self._run.log(flatten(record, "/"), step=record["epoch"])

    def log_picture(self, path: Path, epoch: int) -> None:
        """Add a picture of images as the method mixes them after an epoch."""
        self._run.log({"mixed": wandb.Image(str(path))}, step=epoch)

    def finish(self, metrics: Mapping[str, Any], checkpoint: Path) -> None:
        """Add the results, as a summary and as a table, and the checkpoint, as an artifact, and close the page."""
        self._run.summary.update(flatten(metrics, "/"))
        errors = {key: value for key, value in metrics.items() if key.endswith("_error")}
        statistics = [*metrics["top1_error"]]  # such as median10
        rows = [
            [name, *(value.get(key) if isinstance(value, Mapping) else value for key in statistics)]
            for name, value in errors.items()
        ]
        self._run.log({"results": wandb.Table(columns=["error", *statistics], data=rows)}, step=metrics["epochs"])
        artifact = wandb.Artifact(self._name[:128], type="model", metadata=dict(metrics))
        artifact.add_file(str(checkpoint))
        self._run.log_artifact(artifact)
        self._run.finish()
