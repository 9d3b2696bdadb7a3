"""Weights that are kept in `models/`, with a card: what they are, what they reach, and how to make them again."""

import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from puzzlemix.cli.overrides import command, key_of
from puzzlemix.runtime.errors import require
from puzzlemix.runtime.files import write_text
from puzzlemix.runtime.nested import flatten
from puzzlemix.training.checkpoint import load_checkpoint, save_checkpoint
from puzzlemix.training.settings import RESULT_DEPENDS_ON, WITHOUT_EFFECT, fingerprint

SAID_ELSEWHERE = ("_target_", "name", "root", "workers")
WHERE_IT_RAN = ("results_dir", "resume", "device", "launcher", "keep_weights", "log_every", *WITHOUT_EFFECT)


def check_kept(config: Mapping[str, Any]) -> None:
    """Raise `InputError` where weights of another config, or another file, lie in the place of this run's."""
    path = _kept_path(config)
    if not path.exists():
        return
    theirs = load_checkpoint(path)["config"]
    of_a_run = {*RESULT_DEPENDS_ON, "precision"} <= set(theirs)  # and not imported
    ours = of_a_run and fingerprint(theirs) == fingerprint(config)
    require(ours, f"{path} holds weights of another config: give another name=, or move it, its .json and its .md")


def keep_weights(checkpoint: Path, metrics: Mapping[str, Any]) -> None:
    """Copy a run's network, without what only training needs, to `models/`, with its metrics and a card."""
    content, path = load_checkpoint(checkpoint), _kept_path(metrics)
    save_checkpoint(path, {"config": content["config"], "network": content["network"]})
    write_text(path.with_suffix(".json"), json.dumps(dict(metrics), indent=2) + "\n")
    write_text(path.with_suffix(".md"), model_card(path, content["config"], metrics))


def model_card(weights: Path, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """A card in Markdown of a file of weights, with the config and the metrics of its run."""
    on, of = metrics["evaluated_on"], config["dataset"]["name"]
    rows = "".join(f"| {what} | {value} |\n" for what, value in _lines(weights, config, metrics).items())
    evaluation = command("evaluate", {"checkpoint": weights, "suite": "full"})
    return (
        f"# {metrics['name']}, seed {metrics['seed']}\n\n"
        f"{_kind(config['network'])} trained on {of} with {_kind(config['mixup'])}. Pixels in [0, 1] in, logits out. "
        f"Weights of one seed; `best` was chosen on the {on} images, so it is optimistic.\n\n"
        f"| what | |\n|---|---|\n{rows}\n"
        f"To evaluate them:\n\n```sh\n{evaluation}\n```\n\n{_to_make_again(config, metrics)}"
    )


def _kept_path(run: Mapping[str, Any]) -> Path:
    """The place of the weights of a run with this `name` and `seed`."""
    return Path("models") / f"{run['name']}_seed{run['seed']}.pt"


def _lines(weights: Path, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, str]:
    machine, versions, file = metrics["machine"], metrics["versions"], weights.read_bytes()
    clean = {key: metrics[f"{key}_error"]["last"] for key in ("top1", "top5")}
    attacked = {name: metrics[f"{name}_error"] for name in metrics["attacks"]}
    top1 = metrics["top1_error"]
    return {
        "file": f"`{weights.name}`, {len(file) / 1e6:.1f} MB, SHA-256 `{hashlib.sha256(file).hexdigest()}`",
        "dataset": _in_words(config["dataset"]),
        **{part: _in_words(config[part], without=config["dataset"]) for part in ("network", "mixup", "recipe")},
        "precision": config["precision"],
        "errors, last epoch": ", ".join(f"{name} {error:.2f} %" for name, error in (clean | attacked).items()),
        "top1, other epochs": f"median of the last ten {top1['median10']:.2f} %, best {top1['best']:.2f} %",
        "made on": f"{machine['gpu'] or machine['processor']}, {machine['processes']} process(es)",
        "made by": f"commit `{metrics['git_commit']}`, torch {versions['torch']}, Python {versions['python']}",
    }


def _to_make_again(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """The command, without the keys that only say where and how it ran."""
    typed = {override: key_of(override) for override in config["overrides"]}
    kept = [override for override, key in typed.items() if key not in WHERE_IT_RAN and not key.startswith("logger.")]
    processes = metrics["machine"]["processes"]
    launcher = "python" if processes == 1 else f"torchrun --nproc-per-node={processes}"
    training = f"{launcher} scripts/train.py {shlex.join([*kept, 'keep_weights=true'])}"
    return f"To make them again:\n\n```sh\n{training}\n```\n"


def _kind(part: Mapping[str, Any]) -> str:
    """`puzzlemix.mixing.CutMix` -> `CutMix`."""
    return part["_target_"].rpartition(".")[2]


def _in_words(part: Mapping[str, Any], without: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Settings as `alpha 1.0, beta 1.2`, without those of another part, and without empty lists."""
    said = {*SAID_ELSEWHERE, *without}
    kept = {key: value for key, value in flatten(part).items() if not {key, key.rpartition(".")[2]} & said}
    return ", ".join(f"{key} {value}" for key, value in kept.items() if value != [])
