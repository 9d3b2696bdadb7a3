"""Train a network with a mixing method, evaluate it on clean and attacked images, and log everything.

python scripts/train.py mixup=puzzlemix
python scripts/train.py experiment=cifar100_preactresnet18_puzzlemix seed=0
torchrun --nproc-per-node=4 scripts/train.py dataset=cifar100 network=wrn28_10 mixup=cutmix recipe=cifar100_wrn
python scripts/train.py -m mixup=vanilla,puzzlemix seed=0,1,2
"""

from startup import hold_signals

if __name__ == "__main__":
    hold_signals()

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from torch.compiler import set_stance

from puzzlemix.cli.config import build, build_part, build_recipe, plain
from puzzlemix.cli.script import script, warn
from puzzlemix.evaluation.evaluator import Evaluator, attack_errors, check_evaluation
from puzzlemix.runtime import distributed, preemption
from puzzlemix.runtime.checkpoint import digest
from puzzlemix.runtime.errors import RunError, require
from puzzlemix.training.log import RunLog
from puzzlemix.training.loop import Trainer
from puzzlemix.training.model_card import check_kept, keep_weights
from puzzlemix.training.settings import command


def check(config: DictConfig) -> Path:
    """Raise `InputError` if a run cannot work, as far as it shows without data and network; return its folder."""
    config = plain(config)
    build_recipe(config["recipe"])
    build_part(config["mixup"])
    check_evaluation(config["test_batch_size"], config["attack"])
    return RunLog(config).folder


@script("train", check)
def main(config: DictConfig) -> None:
    config = plain(config) | {"overrides": list(HydraConfig.get().overrides.task)}  # for the card of kept weights
    device = distributed.join(config["device"])
    chosen = HydraConfig.get().runtime.choices
    check_choices(chosen)
    if distributed.is_main():
        warn(made_for_digits(chosen))
    log = RunLog(config)
    if config["keep_weights"]:
        check_kept(log.config)
    check_evaluation(config["test_batch_size"], config["attack"])
    if distributed.from_first_process(log.metrics is not None):  # other machines need not see the folder
        if distributed.is_main():
            leave_finished(log, config)
        return
    data, network, mixer, recipe = build(config)
    data.load(device)
    network.to(device)

    trainer = Trainer(network, mixer, data, recipe, log)
    with log.recording_failure():
        trainer.train(after_epoch=lambda: show_mixed(log, trainer))
        weights = digest(network)
        evaluator = Evaluator(network, data, config["test_batch_size"], config["seed"])
        errors = attack_errors(evaluator.keeping(log.attacks_path, weights), config["attack"])
    with preemption.deferred():  # so that a run with metrics also has its wandb page and kept weights
        if distributed.is_main():
            of = {"weights": weights, "evaluated_on": data.evaluated_on}
            metrics = log.finish({**of, **errors, "attacks": config["attack"]})
            if config["keep_weights"]:
                keep_weights(log.checkpoint_path, metrics)
            shown = {"top1_error (median10)": metrics["top1_error"]["median10"], **errors}
            print(f"{log.folder}: " + ", ".join(f"{name} {value:.2f} %" for name, value in shown.items()))
        distributed.wait_for_all()


def show_mixed(log: RunLog, trainer: Trainer) -> None:
    """Draw some images as the method mixes them, every `logger.mixed_every` epochs (0: never) and after the last.

    A picture that cannot be written is only a warning.
    """
    done, every = len(log.records), log.config["logger"]["mixed_every"]
    is_wanted = every > 0 and (done % every == 0 or done == trainer.recipe.epochs)
    if not (is_wanted and distributed.is_main()):
        return
    from puzzlemix.reporting.pictures import draw_mixed  # imported here, since it needs matplotlib

    path = log.folder / "mixed.png"
    eager = set_stance("force_eager") if log.config["compile"] else nullcontext()
    try:
        with eager:  # nothing is compiled for one batch
            draw_mixed(path, trainer.network, trainer.mixer, trainer.data, trainer.seed)
        log.log_picture(path)
    except RunError as error:
        warn([str(error)])


def check_choices(chosen: Mapping[str, str | None]) -> None:
    """Raise `InputError` if an experiment is combined with a recipe that has its own dataset and network."""
    clash = chosen["recipe"] == "cifar100_small" and chosen["experiment"] is not None
    require(not clash, f"recipe={chosen['recipe']} has its own dataset and network: leave out experiment=, add mixup=")


def made_for_digits(chosen: Mapping[str, str | None]) -> list[str]:
    """A warning if another dataset is trained with a network or a recipe that is the default for digits."""
    defaults = {"network": "preactresnet18_narrow", "recipe": "digits"}
    left = [f"{group}={option}" for group, option in defaults.items() if chosen[group] == option]
    if chosen["dataset"] == "digits" or not left:
        return []
    keys = " and ".join(f"{one.partition('=')[0]}=" for one in left)
    return [f"{chosen['dataset']} with {' and '.join(left)}, made for digits: add {keys}, or take an experiment="]


def leave_finished(log: RunLog, config: Mapping[str, Any]) -> None:
    """Print that there is nothing to train and which attacks were not measured, and keep the weights if asked to."""
    print(f"{log.folder}: finished before, nothing to do")
    measured = log.metrics.get("attacks", {})
    others = [name for name, settings in config["attack"].items() if measured.get(name) != settings]
    if others:
        evaluate = command("evaluate", {"checkpoint": log.checkpoint_path}) + " attack=..."
        print(f"{log.folder}: not attacked by {', '.join(others)}, which this command asks for: run {evaluate}")
    if config["keep_weights"]:
        keep_weights(log.checkpoint_path, log.metrics)


if __name__ == "__main__":
    main()
