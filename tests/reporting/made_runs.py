"""Runs to report on: real ones, and from them runs of settings that would take days to train."""

import json
import shutil

import hydra
import yaml
from conftest import CONFIGS, SCRIPTS
from omegaconf import OmegaConf

from puzzlemix.reporting import compare
from puzzlemix.reporting.measures import FGSM8
from puzzlemix.reporting.paper import experiment_files
from puzzlemix.training.log import STATISTICS
from puzzlemix.training.settings import fingerprint

PAPER = SCRIPTS.parent / "results" / "paper"
EXPERIMENTS = CONFIGS / "experiment"


def run_of(runs, method="puzzlemix", seed=0):
    """The folder of one of the fixture's runs."""
    return runs / f"digits_preactresnet18_narrow_{method}" / f"seed{seed}"


def change(path, **values):
    """Set keys of a run's `metrics.json`, or of its `config.yaml`, of which its results are then too."""
    read, write = (json.loads, json.dumps) if path.suffix == ".json" else (yaml.safe_load, yaml.safe_dump)
    changed = {**read(path.read_text()), **values}
    path.write_text(write(changed))
    metrics = path.with_name("metrics.json")
    if path.name == "config.yaml" and metrics.is_file():
        results = json.loads(metrics.read_text())
        its_own = {"name": changed["name"], "seed": changed["seed"], "epochs": changed["recipe"]["epochs"]}
        metrics.write_text(json.dumps({**results, **its_own, "config_hash": fingerprint(changed)}))


def make_run(runs, name, seed, error, *overrides):
    """The folder of a run of an experiment's config that ended with this error; inside the fixture `hydra_configs`."""
    folder = runs / "made" / name / f"seed{seed}"
    shutil.copytree(run_of(runs), folder)
    (experiment,) = (e for e in experiment_files(EXPERIMENTS) if e.name == name)
    config = hydra.compose("train", [f"experiment={name}", f"seed={seed}", f"table={experiment.table}", *overrides])
    config.choices = experiment.choices
    change(folder / "config.yaml", **OmegaConf.to_container(config, resolve=True))
    attacks = {"fgsm8": dict(FGSM8.attack)}
    change(folder / "metrics.json", top1_error=dict.fromkeys(STATISTICS, error), attacks=attacks, fgsm8_error=90.0)
    return folder


def results_of(runs, table=None, tolerance=0.2):
    """What there is to show of runs; inside the fixture `hydra_configs`."""
    asked = {"results_dir": runs, "published": PAPER, "tolerance": tolerance, "table": table}
    return compare.results_of(asked, CONFIGS.parent)
