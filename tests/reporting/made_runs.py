"""Runs to report on: real ones, and from them runs of settings that would take days to train."""

import json
import shutil
from functools import cache

import hydra
import yaml
from conftest import CONFIGS, SCRIPTS
from omegaconf import OmegaConf

from puzzlemix.reporting import compare
from puzzlemix.reporting.measures import FGSM4, FGSM8
from puzzlemix.training.log import STATISTICS, summary
from puzzlemix.training.settings import fingerprint

PAPER = SCRIPTS.parent / "results" / "paper"
EXPERIMENTS = CONFIGS / "experiment"


def run_of(runs, method="puzzlemix", seed=0):
    """The folder of one of the fixture's runs."""
    return runs / f"digits_preactresnet18_narrow_{method}" / f"seed{seed}"


def change(path, **values):
    """Set keys of a run's `metrics.json`, or of its `config.yaml`; its other files then agree with it."""
    read, write = (json.loads, json.dumps) if path.suffix == ".json" else (yaml.safe_load, yaml.safe_dump)
    before = read(path.read_text())
    changed = {**before, **values}
    if "top1_error" in values and "top5_error" not in values:
        changed["top5_error"] = dict.fromkeys(STATISTICS, before["top5_error"]["last"])
    path.write_text(write(changed))
    metrics = path.with_name("metrics.json")
    if path.name == "config.yaml" and metrics.is_file():
        results = json.loads(metrics.read_text())
        its_own = {"name": changed["name"], "seed": changed["seed"], "epochs": changed["recipe"]["epochs"]}
        if {"name", "seed"} & set(values):
            its_own["weights"] = f"of {changed['name']} {changed['seed']}"
        metrics.write_text(json.dumps({**results, **its_own, "config_hash": fingerprint(changed)}))
    if "top1_error" in values or before.get("recipe") != changed.get("recipe"):
        write_log(path.parent)


def write_log(folder):
    """A log of as many epochs as the metrics have, from which their errors follow."""
    log, metrics = folder / "log.jsonl", json.loads((folder / "metrics.json").read_text())
    old, epochs = [json.loads(line) for line in log.read_text().splitlines()], metrics["epochs"]
    agrees = len(old) == epochs and summary(old).items() <= metrics.items()
    if agrees or set(metrics["top1_error"]) != set(STATISTICS):
        return  # it agrees, or no log could
    first = old[0]
    records = [first | {"epoch": epoch} for epoch in range(epochs)]
    for key in ("top1_error", "top5_error"):
        error = metrics[key]
        for record in records:
            record[key] = error["median10"]
        records[max(0, epochs - 10)][key] = error["best"]
        records[-1][key] = error["last"]
    log.write_text("".join(json.dumps(record) + "\n" for record in records))


@cache
def composed(name, *overrides):
    """The config of an experiment's runs."""
    config = hydra.compose("train", [f"experiment={name}", "table=made", *overrides])
    config.choices = {"network": "any", "mixup": name.rpartition("_")[2]}
    return OmegaConf.to_container(config, resolve=True)


def make_run(runs, name, seed, error, *overrides):
    """The folder of a run of an experiment's config that ended with this error; inside the fixture `hydra_configs`."""
    folder = runs / "made" / name / f"seed{seed}"
    shutil.copytree(run_of(runs), folder)
    config = {**composed(name, *overrides), "seed": seed}
    weights, attacks = f"of {name} {seed}", {"fgsm4": dict(FGSM4.attack), "fgsm8": dict(FGSM8.attack)}
    change(folder / "metrics.json", weights=weights, attacks=attacks, fgsm4_error=90.0, fgsm8_error=90.0)
    change(folder / "config.yaml", **config)
    change(folder / "metrics.json", **{key: dict.fromkeys(STATISTICS, error) for key in ("top1_error", "top5_error")})
    return folder


def results_of(runs):
    """What there is to show of runs."""
    return compare.results_of({"results_dir": runs, "published": PAPER}, CONFIGS.parent)


def rows_of_table(runs, name):
    """The compared rows of a published table, by label."""
    (rows,) = [rows for table, rows in results_of(runs).published if table.name == name]
    return {row.published.label: row for row in rows}


def shown(runs, name):
    """A table as it is printed: its rows by label, and its notes."""
    (table,) = compare.tables_named(results_of(runs), name)
    return {row[0]: row[1:] for row in table.rows}, table.notes
