"""What is shown of published runs is what their files say: tables, errors by loss and rate, cards of kept weights."""

import hashlib
import re
from pathlib import Path
from statistics import mean, median

import pytest
import torch
from conftest import CONFIGS
from test_experiments import compose

from puzzlemix.cli.config import load_experiment, plain
from puzzlemix.reporting.runs import find_runs
from puzzlemix.runtime.checkpoint import digest, load_checkpoint
from puzzlemix.training.model_card import check_kept, model_card
from puzzlemix.training.settings import differences, fingerprint, settings

ROOT = CONFIGS.parent
PUBLISHED, TABLES = ROOT / "results" / "published_runs", ROOT / "results" / "tables"
SMALL = "cifar100_20classes_preactresnet18_16channels"
CARDS = re.findall(r"^- `(\w+)`", (ROOT / "models" / "README.md").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def found():
    return find_runs(PUBLISHED)


def test_every_run_is_finished_and_whole(found):
    assert found.problems == []
    assert {run.status for run in found.runs} == {"finished"}
    for run in found.runs:
        assert [record["epoch"] for record in run.log] == list(range(run.config["recipe"]["epochs"]))
        evaluated = [record for record in run.log if "top1_error" in record]
        best = min(reversed(evaluated), key=lambda record: record["top1_error"])
        for key in ("top1_error", "top5_error"):
            errors = [record[key] for record in evaluated]
            wanted = {"last": errors[-1], "median10": median(errors[-10:]), "best": best[key]}
            assert run.metrics[key] == wanted
        seconds = [record["seconds"]["total"] for record in run.log]
        assert run.metrics["seconds_per_epoch"]["total"] == pytest.approx(sum(seconds) / len(seconds))
        assert not run.metrics["git_commit"].endswith("-dirty")
        assert not Path(run.config["results_dir"]).is_absolute()


def test_every_evaluation_is_of_its_own_run(found):
    evaluated = [run for run in found.runs if run.robustness]
    assert evaluated
    for run in evaluated:
        for key in ("top1_error", "top5_error"):
            assert run.robustness[key] == pytest.approx(run.metrics[key]["last"])
    assert len({run.robustness["weights"] for run in evaluated}) == len(evaluated)


def test_every_run_is_what_its_command_line_still_comes_to(found):
    for run in found.runs:
        overrides = run.config["overrides"] or ["recipe=cifar100_small", f"mixup={run.method}"]  # None: not recorded
        composed = plain(compose("name=any", *overrides))
        assert differences(settings(composed), settings(run.config)) == {}
        assert composed["seed"] == run.seed


@pytest.mark.parametrize("ending", ["md", "csv"])
def test_the_tables_are_those_that_the_runs_make(script, tmp_path, ending):
    script("compare", "table=*", f"results_dir={PUBLISHED}", f"output={tmp_path}/tables.{ending}")
    assert (tmp_path / f"tables.{ending}").read_text() == (TABLES / f"cifar100.{ending}").read_text()


def test_errors_beside_those_on_training_images_are_of_the_runs(found):
    """The table of losses and rates: `26.00 (10.5)`, means over the seeds that have the number."""
    rows = re.findall(r"^\| ([\w ]+) \|(.* \(.*)\|$", (ROOT / "results" / "README.md").read_text(), re.MULTILINE)
    methods = [name.lower().replace(" ", "") for name, _ in rows]
    assert methods == ["vanilla", "input", "manifold", "cutmix", "puzzlemix"]
    for method, (_, cells) in zip(methods, rows, strict=True):
        for variant, cell in zip(("", "_soft_cross_entropy", "_lr_1"), cells.split("|"), strict=True):
            runs = [run for run in found.runs if run.name == f"{SMALL}_{method}{variant}"]
            assert bool(runs) == bool(cell.strip())
            if runs:
                on_test = mean(run.metrics["top1_error"]["median10"] for run in runs)
                on_train = mean(run.robustness["train_error"] for run in runs if run.robustness)
                shown = [float(number) for number in re.findall(r"[\d.]+", cell)]
                assert shown == [pytest.approx(on_test, abs=0.0051), pytest.approx(on_train, abs=0.051)]


@pytest.mark.parametrize("picture", sorted(TABLES.glob("cifar100*.png")), ids=lambda path: path.stem)
def test_pictures_are_small(picture):
    assert picture.stat().st_size < 300_000


def test_there_is_a_card_of_all_that_is_kept():
    kept = re.findall(r"^!models/(\w+)\.pt$", (ROOT / ".gitignore").read_text(), re.MULTILINE)
    assert kept
    assert kept == CARDS


@pytest.mark.parametrize("name", CARDS)
def test_a_card_is_of_a_published_run_and_of_weights_that_are_there(found, name, monkeypatch):
    card, weights = ((ROOT / "models" / name).with_suffix(ending) for ending in (".md", ".pt"))
    text, content = card.read_text(), load_checkpoint(weights)
    (run,) = (run for run in found.runs if f"{run.name}_seed{run.seed}" == name)
    assert f"SHA-256 `{hashlib.sha256(weights.read_bytes()).hexdigest()}`" in text
    assert weights.stat().st_size < 5_000_000
    assert fingerprint(content["config"]) == run.config_hash
    monkeypatch.chdir(ROOT)
    assert text == model_card(weights.relative_to(ROOT), content["config"], run.metrics)
    check_kept(run.config)  # the card's command may write them again
    network = load_experiment(str(weights), CONFIGS, torch.device("cpu"), with_data=False).experiment.network
    assert digest(network) == run.metrics["weights"]
    with torch.no_grad():
        assert network(torch.rand(2, 3, 32, 32)).shape == (2, run.config["dataset"]["num_classes"])
