"""The plan of runs: its steps against those of real trainings, and what it leaves out."""

import json

import pytest
import torch
from conftest import TINY
from test_experiments import compose

from puzzlemix.cli.config import build, plain
from puzzlemix.training import cost


@pytest.fixture
def quick(monkeypatch):
    """Two measured steps instead of twenty."""
    monkeypatch.setattr(cost, "STEPS", 2)


def cost_of(*overrides):
    config = plain(compose("name=any", *overrides))
    data, network, mixer, recipe = build(config)
    return cost.cost_of(network, mixer, data, recipe, config, torch.device("cpu")), data, recipe


def test_steps_and_evaluations_are_those_of_a_real_training(quick, finished):
    records = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    tiny = [override for override in TINY if not override.startswith(("attack", "logger", "device"))]
    found, data, recipe = cost_of(*tiny)
    trained = sum(-(-record["images"] // recipe.batch_size) for record in records)
    assert found.steps == trained == recipe.epochs * data.steps(recipe.batch_size, recipe.drop_last)
    assert found.training_s > 0
    assert found.hours == pytest.approx((found.training_s + found.evaluations_s) / 3600)


def test_a_dataset_of_the_tables_need_not_be_there(quick, tmp_path):
    narrow = ["experiment=cifar100_preactresnet18_vanilla", "network.initial_channels=2", f"dataset.root={tmp_path}"]
    assert cost_of(*narrow)[0].steps == 1200 * 500


def test_every_phase_of_a_recipe_is_measured_with_its_own_batch_and_images(quick, monkeypatch):
    seen = []
    real = cost._seconds

    def watched(work, batch, size, *rest):
        seen.append((batch, size))
        return real(work, 2, (8, 8), *rest)

    monkeypatch.setattr(cost, "_seconds", watched)
    found, _, _ = cost_of("experiment=imagenet_resnet50_vanilla_fast")
    images = 1281167
    assert found.steps == 15 * (images // 1024) + 85 * (images // 448)
    assert seen == [(1024, (128, 128)), (448, (224, 224)), (250, (224, 224))]


def test_the_script_leaves_out_what_is_finished(quick, script, train, tmp_path, capsys):
    train("mixup=vanilla")
    runs = [f"results_dir={tmp_path}", "name=run", *TINY]
    script("plan", *runs, "seed=0,1,2")
    shown = capsys.readouterr().out
    assert "all: 2 runs, 0.0 h on " in shown
    assert "; 1 finished before" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep=table33"], "unknown sweep 'table33'; did you mean 'table3'"),
        (["mixup=puzlemix"], "unknown mixup 'puzlemix'; did you mean 'puzzlemix'"),
        (["recipe.epoch=3"], "unknown config key 'recipe.epoch'; did you mean 'recipe.epochs'"),
    ],
)
def test_bad_input_is_one_line(script, arguments, message):
    with pytest.raises(SystemExit, match=message):
        script("plan", *arguments)
