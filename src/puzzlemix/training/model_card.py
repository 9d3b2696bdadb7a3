"""Weights that are kept in `models/`, with a card: what they are, what they reach, and how to make them again."""

import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from puzzlemix.runtime.checkpoint import load_checkpoint, save_checkpoint
from puzzlemix.runtime.errors import require
from puzzlemix.runtime.files import write_text
from puzzlemix.runtime.nested import flatten
from puzzlemix.training.settings import RESULT_DEPENDS_ON, WITHOUT_EFFECT, command, fingerprint, key_of

SAID_ELSEWHERE = ("_target_", "name", "root", "workers")
WHERE_IT_RAN = ("results_dir", "resume", "device", "launcher", "keep_weights", "log_every", *WITHOUT_EFFECT)


def check_kept(config: Mapping[str, Any]) -> None:
    """Raise `InputError` if the place of this run's weights has those of another config."""
    path = _kept_path(config)
    if not path.exists():
        return
    theirs = load_checkpoint(path)["config"]
    is_of_a_run = {*RESULT_DEPENDS_ON, "precision"} <= set(theirs)  # and not imported
    is_ours = is_of_a_run and fingerprint(theirs) == fingerprint(config)
    require(is_ours, f"{path} holds weights of another config: give another name=, or move it, its .json and its .md")


def keep_weights(checkpoint: Path, metrics: Mapping[str, Any]) -> None:
    """Copy a run's network, without what only training needs, to `models/`, with its metrics and a card."""
    content, path = load_checkpoint(checkpoint), _kept_path(metrics)
    save_checkpoint(path, {"config": content["config"], "network": content["network"]})
    write_text(path.with_suffix(".json"), json.dumps(dict(metrics), indent=2) + "\n")
    write_text(path.with_suffix(".md"), model_card(path, content["config"], metrics))


def _kept_path(run: Mapping[str, Any]) -> Path:
    return Path("models") / f"{run['name']}_seed{run['seed']}.pt"


def model_card(weights: Path, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """A card in Markdown of a file of weights, with the config and the metrics of its run."""
    dataset, machine, versions, file = config["dataset"], metrics["machine"], metrics["versions"], weights.read_bytes()
    network, mixup = (config[part]["_target_"].rpartition(".")[2] for part in ("network", "mixup"))
    errors = {key: metrics[f"{key}_error"]["last"] for key in ("top1", "top5")}
    errors |= {name: metrics[f"{name}_error"] for name in metrics["attacks"]}
    top1, processes = metrics["top1_error"], machine["processes"]
    rows = {
        "file": f"`{weights.name}`, {len(file) / 1e6:.1f} MB, SHA-256 `{hashlib.sha256(file).hexdigest()}`",
        "dataset": _in_words(dataset),
        **{part: _in_words(config[part], *dataset) for part in ("network", "mixup", "recipe")},
        "precision": config["precision"],
        "errors, last epoch": ", ".join(f"{name} {error:.2f} %" for name, error in errors.items()),
        "top1, other epochs": f"median of the last ten {top1['median10']:.2f} %, best {top1['best']:.2f} %",
        "made on": f"{machine['gpu'] or machine['processor']}, {processes} process(es)",
        "made by": f"commit `{metrics['git_commit']}`, torch {versions['torch']}, Python {versions['python']}",
    }
    table = "".join(f"| {what} | {value} |\n" for what, value in rows.items())
    launcher = "python" if processes == 1 else f"torchrun --nproc-per-node={processes}"
    typed = {override: key_of(override) for override in config["overrides"]}
    kept = [override for override, key in typed.items() if key not in WHERE_IT_RAN and not key.startswith("logger.")]
    return f"""# {metrics["name"]}, seed {metrics["seed"]}

{network} trained on {dataset["name"]} with {mixup}. Pixels in [0, 1] in, logits out. Weights of one seed; `best` was \
chosen on the {metrics["evaluated_on"]} images, so it is optimistic.

| what | |
|---|---|
{table}
To evaluate them:

```sh
{command("evaluate", {"checkpoint": weights, "suite": "full"})}
```

To make them again:

```sh
{launcher} scripts/train.py {shlex.join([*kept, "keep_weights=true"])}
```
"""


def _in_words(part: Mapping[str, Any], *without: str) -> str:
    """Settings as `alpha 1.0, beta 1.2`, without empty lists and some others."""
    hidden = {*SAID_ELSEWHERE, *without}
    kept = {key: value for key, value in flatten(part).items() if not {key, key.rpartition(".")[2]} & hidden}
    return ", ".join(f"{key} {value}" for key, value in kept.items() if value != [])
