"""Estimate the cost of runs on this machine before they start: steps, seconds and hours, from a few measured steps.

python scripts/plan.py sweep=table3
python scripts/plan.py experiment=cifar100_preactresnet18_puzzlemix_300 seed=0,1,2
"""

import sys
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from tqdm import tqdm

from puzzlemix.cli import overrides
from puzzlemix.cli.config import build, plain
from puzzlemix.cli.script import plain_script
from puzzlemix.reporting.tables import Table, print_tables
from puzzlemix.runtime.distributed import pick_device
from puzzlemix.runtime.environment import processor
from puzzlemix.training.cost import Cost, cost_of
from puzzlemix.training.log import RunLog
from puzzlemix.training.settings import key_of
from startup import CONFIGS

HOURS_A_DAY, HOURS_A_YEAR = 24, 24 * 365


@plain_script
def main() -> None:
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        return
    planned: dict[str, list[dict[str, Any]]] = defaultdict(list)  # run's name -> configs of unfinished runs
    finished = 0
    for config in configs_of(sys.argv[1:]):
        if RunLog(config).metrics is not None:
            finished += 1
        else:
            planned[config["name"]].append(config)
    costs = {name: measure(configs[0]) for name, configs in tqdm(planned.items(), unit="method", disable=None)}
    rows, total = [], 0.0
    for name, cost in costs.items():
        runs = len(planned[name])
        total += runs * cost.hours
        step_ms = 1000 * cost.training_s / cost.steps
        rows.append(
            (name, str(runs), str(cost.steps), f"{step_ms:.0f}", in_words(cost.hours), in_words(runs * cost.hours))
        )
    notes = [
        f"all: {sum(map(len, planned.values()))} runs, {in_words(total)} on {processor()}; {finished} finished before",
        "steps and an evaluation were measured on random images; reading images and attacks are not counted",
    ]
    print_tables([Table("cost of the runs", ("run", "runs", "steps each", "ms a step", "each", "all"), rows, notes)])


def configs_of(arguments: list[str]) -> list[dict[str, Any]]:
    """The config of every run that `train.py` would start with these arguments."""
    arguments = overrides.complete([*arguments, "--multirun"])
    overrides.check(CONFIGS, "train", arguments)
    given = [argument for argument in arguments if not argument.startswith("-")]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        fixed = [override for override in given if override.startswith(("sweep=", "hydra."))]
        swept = compose("train", fixed, return_hydra_config=True).hydra.sweeper.get("params") or {}
        wanted = {key_of(override): override for override in given if override not in fixed}
        wanted = {key: f"{key}={value}" for key, value in swept.items()} | wanted
        parsed = OverridesParser.create().parse_overrides([*wanted.values()])
        (runs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
        return [_resolved(list(run)) for run in runs]


def _resolved(run: list[str]) -> dict[str, Any]:
    """The resolved config of one run, without Hydra's part, to which its ${hydra:...} refer."""
    config = compose("train", run, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    return plain(OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]))


def measure(config: Mapping[str, Any]) -> Cost:
    """What one run of this config would cost here."""
    data, network, mixer, recipe = build(config)
    return cost_of(network, mixer, data, recipe, config, pick_device(config["device"]))


def in_words(hours: float) -> str:
    """`0.3 h`, `5 days`, `12 years`."""
    if hours < 2 * HOURS_A_DAY:
        return f"{hours:.1f} h"
    return f"{hours / HOURS_A_DAY:.0f} days" if hours < HOURS_A_YEAR else f"{hours / HOURS_A_YEAR:.1f} years"


if __name__ == "__main__":
    main()
