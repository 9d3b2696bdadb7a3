"""Whole runs: what they write, that they resume exactly, and what stops them."""

import hashlib
import json
import os
import re
import shlex
import time
from statistics import median

import pytest
import torch
import yaml
from conftest import log_of, on_a_terminal
from matplotlib.image import imread
from test_experiments import compose
from torch import nn

from benchmarks.soak import differences
from puzzlemix.cli.config import build, plain
from puzzlemix.reporting.pictures import draw_mixed
from puzzlemix.reporting.runs import find_runs
from puzzlemix.runtime.checkpoint import load_checkpoint
from puzzlemix.training.log import summary
from puzzlemix.training.loop import Trainer
from puzzlemix.training.model_card import model_card

METHODS = ("vanilla", "input", "manifold", "cutmix", "puzzlemix", "puzzlemix_adversarial")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_to_a_finished_run(train, method):
    folder = train(f"mixup={method}")
    metrics = json.loads((folder / "metrics.json").read_text())
    log = log_of(folder)
    assert [record["epoch"] for record in log] == [0, 1]
    errors = [record["top1_error"] for record in log]
    assert metrics["top1_error"] == {"last": errors[-1], "median10": sum(errors) / 2, "best": min(errors)}
    assert metrics["evaluated_on"] == "test"
    seconds = metrics["seconds_per_epoch"]
    assert seconds["network"] > 0
    assert (seconds["saliency"] > 0) == method.startswith("puzzlemix")
    assert seconds["total"] == pytest.approx(sum(v for k, v in seconds.items() if k != "total"))
    if method.startswith("puzzlemix"):
        assert [record["uniform_saliency"] for record in log] == [0, 0]
    assert (folder / "config.yaml").is_file()
    assert load_checkpoint(folder / "checkpoints" / "last.pt")["epoch"] == 2


def test_the_best_top5_error_is_of_the_epoch_with_the_best_top1_error():
    """Of the last one where several have it, as in the release."""
    errors = [(30.0, 9.0), (20.0, 8.0), (20.0, 7.0), (25.0, 3.0)]
    found = summary([{"top1_error": top1, "top5_error": top5} for top1, top5 in errors])
    assert found["top1_error"] == {"last": 25.0, "median10": 22.5, "best": 20.0}
    assert found["top5_error"] == {"last": 3.0, "median10": 7.5, "best": 7.0}


def test_training_learns(train):
    """Twenty images a class, eight epochs: far below the 90 % error of chance."""
    folder = train("dataset.train_per_class=20", "recipe.epochs=8")
    assert log_of(folder)[-1]["top1_error"] < 40
    assert log_of(folder)[-1]["train_loss"] < log_of(folder)[0]["train_loss"]


def test_a_recipe_may_evaluate_seldom_and_always_evaluates_the_last_ten_epochs(train, tmp_path):
    few = "dataset.validation_per_class=2"  # images to evaluate on
    for name, n in (("every", 1), ("seldom", 2)):
        train(f"name={name}", few, "recipe.epochs=13", f"recipe.evaluate_every_epochs={n}")
    every, seldom = (tmp_path / name / "seed0" for name in ("every", "seldom"))
    wanted = log_of(every)
    for epoch in (0, 2):
        del wanted[epoch]["top1_error"], wanted[epoch]["top5_error"]
    assert [record | {"seconds": 0} for record in log_of(seldom)] == [record | {"seconds": 0} for record in wanted]
    errors = [record["top1_error"] for record in wanted if "top1_error" in record]
    summary = {"last": errors[-1], "median10": median(errors[-10:]), "best": min(errors)}
    assert json.loads((seldom / "metrics.json").read_text())["top1_error"] == summary
    assert all("its weights are those of" in problem for problem in find_runs(seldom.parents[1]).problems)


class HalfFrozen(nn.Module):
    """A network whose first part is not to be trained."""

    def __init__(self, **_):
        super().__init__()
        self.features = nn.Linear(3, 8).requires_grad_(False)
        self.linear = nn.Linear(8, 10)

    def forward(self, pixels):
        return self.linear(self.features(pixels.mean((2, 3))))


def test_frozen_weights_stay(train):
    folder = train("network._target_=test_training.HalfFrozen", "mixup=puzzlemix")
    first, last = (load_checkpoint(folder / "checkpoints" / p)["network"] for p in ("previous.pt", "last.pt"))
    assert torch.equal(first["features.weight"], last["features.weight"])
    assert not torch.equal(first["linear.weight"], last["linear.weight"])


def test_attacks_are_measured_after_training(train):
    folder = train("attack=fgsm,pgd", "attack.pgd20_eps4.steps=2")
    metrics = json.loads((folder / "metrics.json").read_text())
    clean = metrics["top1_error"]["last"]
    assert metrics["fgsm8_error"] >= clean
    assert metrics["pgd20_eps4_error"] >= clean


def test_a_run_names_the_commit_that_it_began_with(train, monkeypatch):
    commit = ["of the code that was loaded"]
    monkeypatch.setattr("puzzlemix.runtime.environment.git_commit", lambda: commit[0])
    train_epoch = Trainer.train_epoch

    def commit_meanwhile(trainer, bar):
        commit[0] = "made meanwhile"
        train_epoch(trainer, bar)

    monkeypatch.setattr(Trainer, "train_epoch", commit_meanwhile)
    assert json.loads((train() / "metrics.json").read_text())["git_commit"] == "of the code that was loaded"
    assert commit == ["made meanwhile"]


def test_a_run_is_finished_without_git(train, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert json.loads((train() / "metrics.json").read_text())["git_commit"] is None


def test_a_finished_run_says_what_was_not_measured_and_keeps_its_weights(train, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train("attack=fgsm", 'name="run (1)"', "recipe.epochs=1")
    folder = tmp_path / "run (1)" / "seed0"
    metrics = (folder / "metrics.json").read_bytes()
    assert json.loads(metrics)["attacks"]["fgsm8"]["eps_255"] == 8
    capsys.readouterr()
    train("attack=fgsm,pgd7_eps8", "attack.fgsm8.eps_255=4", "keep_weights=true", 'name="run (1)"', "recipe.epochs=1")
    told = capsys.readouterr().out
    assert "finished before" in told
    command = f"python scripts/evaluate.py 'checkpoint=\"{folder}/checkpoints/last.pt\"' attack=..."
    assert f"not attacked by fgsm8, pgd7_eps8, which this command asks for: run {command}\n" in told
    assert (tmp_path / "models" / "run (1)_seed0.pt").is_file()
    train("attack=fgsm", 'name="run (1)"', "recipe.epochs=1")
    assert "not attacked" not in capsys.readouterr().out
    assert (folder / "metrics.json").read_bytes() == metrics


def test_a_finished_run_is_left_alone(train, copied, capsys):
    folder = copied
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    train()
    assert "finished before" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_seed_decides_the_weights(train, finished, tmp_path):
    train()
    train("seed=1")
    weights = [
        load_checkpoint(folder / "checkpoints" / "last.pt")["network"]["conv1.weight"]
        for folder in (finished, tmp_path / "run" / "seed0", tmp_path / "run" / "seed1")
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(train, tmp_path):
    with pytest.raises(
        SystemExit,
        match=r"not finite in step 2 of epoch 0, learning rate 1e\+30; no epoch was finished: start again with a lower",
    ):
        train("recipe.lr=1e30", "recipe.schedule=steps")
    # an epoch at a usable rate, then one at 1e30
    with pytest.raises(SystemExit, match=r"step 2 of epoch 1, learning rate 1e\+29; .*last\.pt is the last good"):
        train("name=later", "recipe.schedule=steps", "recipe.lr_milestones_epochs=[1]", "recipe.lr_factor=1e30")
    kept = load_checkpoint(tmp_path / "later" / "seed0" / "checkpoints" / "last.pt")
    assert kept["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in kept["network"].values())


def test_weights_that_are_not_finite_are_never_saved(train, tmp_path):
    """The only step of the epoch spoils them: its own loss, taken before, is fine."""
    with pytest.raises(SystemExit, match=r"weights are not finite after step 1 of epoch 0; no epoch was finished"):
        train("recipe.batch_size=40", "recipe.lr=1e38", "recipe.weight_decay=1e6")
    assert not (tmp_path / "run" / "seed0" / "checkpoints").exists()


def test_input_that_turns_out_bad_while_training_stops_the_run(train, tmp_path):
    """A beta that flat borders take and the borders of digits do not."""
    with pytest.raises(SystemExit, match=r"error: beta is too large for solver=swap with 16 x 16 blocks"):
        train("mixup=puzzlemix", "mixup.solver=swap", "mixup.beta=9.9", "mixup.gamma=1.0", "mixup.blocks=[16]")
    assert (tmp_path / "run" / "seed0" / "config.yaml").is_file()


def test_a_folder_of_another_config_is_refused_and_untouched(train, copied):
    folder = copied
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit, match=r"another config \(recipe\.lr: 0\.1 there, 0\.3 here\): give another name="):
        train("recipe.lr=0.3")
    with pytest.raises(SystemExit, match="resume=never"):
        train("resume=never")
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_results_without_their_config_are_not_taken_for_those_of_another(train, copied):
    folder = copied
    (folder / "config.yaml").unlink()
    train()  # the same: finished before
    with pytest.raises(SystemExit, match=r"has results of another config, and no config\.yaml: give another name="):
        train("recipe.epochs=3")
    assert (folder / "metrics.json").is_file()


def test_a_checkpoint_without_its_config_file_still_knows_its_config(train, copied):
    folder = copied
    (folder / "config.yaml").unlink()
    (folder / "metrics.json").unlink()
    checkpoint = (folder / "checkpoints" / "last.pt").read_bytes()
    with pytest.raises(SystemExit, match=r"another config \(recipe\.epochs: 2 there, 3 here\)"):
        train("recipe.epochs=3")
    assert (folder / "checkpoints" / "last.pt").read_bytes() == checkpoint


def test_names_may_be_numbers(train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train("name=2024", "table=2025", "results_dir=2026", "recipe.epochs=1")
    folder = tmp_path / "2026" / "2024" / "seed0"
    assert json.loads((folder / "metrics.json").read_text())["name"] == "2024"
    stored = yaml.safe_load((folder / "config.yaml").read_text())
    assert (stored["name"], stored["table"], stored["results_dir"]) == ("2024", "2025", "2026")


def test_an_output_that_cannot_be_written_is_told_first(finished, script, tmp_path):
    checkpoint = finished / "checkpoints" / "last.pt"
    (tmp_path / "file").write_text("in the way")
    for name, key, output in (
        ("evaluate", f"checkpoint={checkpoint}", "x.json"),
        ("visualize", f"checkpoint={checkpoint}", "x.png"),
        ("compare", f"results_dir={tmp_path}", "x.md"),
        ("report", f"results_dir={tmp_path}", "x.html"),
    ):
        with pytest.raises(SystemExit, match=r"file cannot be made \(File exists\): give another output="):
            script(name, key, f"output={tmp_path}/file/{output}")


def test_kept_weights_are_no_checkpoint_to_go_on_from(train, copied, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train("keep_weights=true")
    (copied / "metrics.json").unlink()
    (tmp_path / "models" / "run_seed0.pt").rename(copied / "checkpoints" / "last.pt")
    with pytest.raises(SystemExit, match=r"last\.pt holds weights alone, as kept in models/"):
        train("keep_weights=true")


def test_a_results_folder_that_cannot_be_made(train, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SystemExit, match=r"file/run/seed0 cannot be made \(Not a directory\): give another"):
        train(f"results_dir={tmp_path}/file")


def test_kept_weights_go_to_models_with_their_card(train, script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = train("keep_weights=true")
    kept = tmp_path / "models" / "run_seed0.pt"
    assert set(load_checkpoint(kept)) == {"config", "network"}
    assert json.loads(kept.with_suffix(".json").read_text()) == json.loads((folder / "metrics.json").read_text())
    capsys.readouterr()
    script("evaluate", f"checkpoint={kept}", "attack=none", "device=cpu")
    last = json.loads((folder / "metrics.json").read_text())["top1_error"]["last"]
    evaluation = json.loads((tmp_path / "models" / "run_seed0_robustness.json").read_text())
    assert evaluation["top1_error"] == pytest.approx(last)
    (folder / "robustness.json").write_text(json.dumps(evaluation))
    assert find_runs(folder.parents[1]).runs[0].robustness == evaluation  # which is of the run's last network


def test_kept_weights_of_another_config_are_not_written_over(train, copied, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train("keep_weights=true")
    kept = {path.name: path.read_bytes() for path in (tmp_path / "models").iterdir()}
    assert len(kept) == 3
    other = f"results_dir={tmp_path}/other"
    with pytest.raises(SystemExit, match=r"models/run_seed0\.pt holds weights of another config: give another name="):
        train("keep_weights=true", "recipe.lr=0.01", other)
    assert not (tmp_path / "other").exists()
    assert {path.name: path.read_bytes() for path in (tmp_path / "models").iterdir()} == kept
    (tmp_path / "models" / "run_seed0.json").unlink()  # as in a clone
    train("keep_weights=true")  # the same once more


def test_the_card_of_kept_weights_says_what_they_are_and_makes_them_again(train, script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train("keep_weights=true", "mixup=cutmix", "mixup.alpha=0.75", "recipe.lr=0.05", 'name="run (1)"')
    weights = tmp_path / "models" / "run (1)_seed0.pt"
    metrics = json.loads((tmp_path / "run (1)" / "seed0" / "metrics.json").read_text())
    card = weights.with_suffix(".md").read_text()
    assert "\npython scripts/evaluate.py 'checkpoint=\"models/run (1)_seed0.pt\"' suite=full\n" in card
    assert f"SHA-256 `{hashlib.sha256(weights.read_bytes()).hexdigest()}`" in card
    assert "| mixup | alpha 0.75, prob 1.0" in card
    assert "lr 0.05, schedule cosine" in card
    assert f"| errors, last epoch | top1 {metrics['top1_error']['last']:.2f} %" in card
    (command,) = re.findall(r"^python scripts/train.py (.*)$", card, re.MULTILINE)
    assert "results_dir" not in command
    first = load_checkpoint(weights)["network"]
    weights.unlink()
    script("train", *shlex.split(command))
    assert (tmp_path / "results" / "runs" / "run (1)" / "seed0" / "metrics.json").is_file()
    assert all(torch.equal(value, first[key]) for key, value in load_checkpoint(weights)["network"].items())


def test_a_card_says_what_was_trained_and_not_where(train):
    folder = train("mixup=augmix", "recipe.epochs=1")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["overrides"] = ["launcher=slurm", "mixup=augmix", "dataset.workers=3", "logger.wandb=offline", "+seed=7"]
    card = model_card(folder / "checkpoints" / "last.pt", config, json.loads((folder / "metrics.json").read_text()))
    assert "\npython scripts/train.py mixup=augmix +seed=7 keep_weights=true\n" in card
    assert "augmentation.severity" in card
    assert "_target_" not in card


def test_a_validation_split_replaces_the_test_images(train):
    folder = train("dataset.validation_per_class=1")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["evaluated_on"] == "validation"
    assert metrics["top1_error"]["last"] % 10 == pytest.approx(0, abs=1e-9)  # of 10 images
    assert log_of(folder)[0]["images"] == 30


def test_progress_shows_on_a_terminal_and_nowhere_else(train, tmp_path, capsys):
    train("name=silent")
    assert capsys.readouterr().err == ""

    with on_a_terminal() as shown:
        train("name=seen")
    (shown,) = shown
    assert re.search(r"seen seed 0.*100\.0 % .* left, .*epoch", shown)
    for record in log_of(tmp_path / "seen" / "seed0"):
        assert f", loss {record['train_loss']:.4f}, error {record['top1_error']:.2f} %" in shown


def test_without_a_terminal_a_line_tells_now_and_then_how_far_it_is(train, script, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("puzzlemix.training.progress.SECONDS_BETWEEN_LINES", 0)
    folder = train()
    first, second = log_of(folder)
    assert capsys.readouterr().out.splitlines()[:2] == [
        f"run seed 0: epoch {record['epoch'] + 1} of 2, loss {record['train_loss']:.4f}, "
        f"error {record['top1_error']:.2f} %"
        for record in (first, second)
    ]
    (folder / "metrics.json").unlink()
    (folder / "checkpoints" / "previous.pt").rename(folder / "checkpoints" / "last.pt")
    train()
    assert capsys.readouterr().out.splitlines()[0] == "run seed 0: goes on from epoch 1 of 2"


def test_multirun_trains_methods_and_seeds(trained):
    assert {(run.name, run.seed) for run in find_runs(trained).runs if run.status == "finished"} == {
        (f"digits_preactresnet18_narrow_{method}", seed) for method in ("vanilla", "puzzlemix") for seed in (0, 1)
    }


@pytest.mark.parametrize("method", ["manifold", "cutmix", "puzzlemix", "puzzlemix_adversarial"])
def test_pictures_of_mixed_images_leave_the_training_as_it_is(train, tmp_path, method):
    never = train(f"mixup={method}").rename(tmp_path / "never")
    often = train(f"mixup={method}", "logger.mixed_every=1")
    assert differences(never, often) == []
    assert not (never / "mixed.png").exists()
    height, width, _ = imread(often / "mixed.png").shape
    assert height > 500
    assert (width > 1000) == ("puzzlemix" in method)  # with saliency, mask and moves


@pytest.mark.parametrize("method", ["cutmix", "puzzlemix"])
def test_a_picture_has_its_pairs_however_many_processes_share_a_batch(tmp_path, monkeypatch, method):
    config = plain(compose(f"mixup={method}", "dataset.train_per_class=100", "network.initial_channels=4"))
    monkeypatch.setattr("puzzlemix.runtime.distributed.world_size", lambda: 64)
    data, network, mixer, _ = build(config)
    data.load(torch.device("cpu"))
    for seed in (0, 1):
        draw_mixed(tmp_path / "mixed.png", network, mixer, data, seed)
        assert imread(tmp_path / "mixed.png").shape[0] > 1000  # six rows


def test_a_picture_that_cannot_be_written_does_not_end_the_run(train, tmp_path, capsys):
    (tmp_path / "run" / "seed0" / "mixed.png").mkdir(parents=True)
    folder = train("logger.mixed_every=2")
    assert (folder / "metrics.json").is_file()
    assert f"warning: {folder / 'mixed.png'} cannot be written (Is a directory)" in capsys.readouterr().err


def test_an_offline_wandb_run_is_made_and_holds_the_log(train, tmp_path, monkeypatch):
    for variable in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(variable)
    train("logger.wandb=offline", "logger.mixed_every=1", "attack=fgsm", "name='my run/1+2'")
    folder = tmp_path / "my run" / "1+2" / "seed0"
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    for _ in range(100):  # wandb's own process may still be writing
        records = read_wandb(path)
        history = [h for h in records["history"] if "train_loss" in h]
        if len(history) == 2:
            break
        time.sleep(0.1)
    assert [h["epoch"] for h in history] == [0, 1]
    assert [h["train_loss"] for h in history] == [record["train_loss"] for record in log_of(folder)]
    assert records["config"]["recipe"]["epochs"] == 2
    media, pictures = path.parent / "files", [h["mixed/path"] for h in records["history"] if "mixed/path" in h]
    assert len(pictures) == 2
    assert imread(media / pictures[1]).shape == imread(folder / "mixed.png").shape
    (table,) = [json.loads((media / h["results/path"]).read_text()) for h in records["history"] if "results/path" in h]
    errors = json.loads((folder / "metrics.json").read_text())
    assert table["columns"] == ["error", "median10", "last", "best"]
    assert table["data"][0] == ["top1_error", *(errors["top1_error"][key] for key in table["columns"][1:])]
    assert table["data"][2] == ["fgsm8_error", *[errors["fgsm8_error"]] * 3]
    assert records["artifacts"] == [("my_run_1_2-seed0", ["last.pt"])]


def read_wandb(path):
    """History, config and models of an offline run, from the protobuf records in wandb's file."""
    from wandb.proto.wandb_internal_pb2 import Record

    history, config, artifacts = [], {}, []
    for data in leveldb_log_records(path.read_bytes()[7:]):  # behind the magic number and version
        record = Record.FromString(data)
        if record.HasField("history"):
            history.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item})
        elif record.HasField("run"):
            config |= {i.key: json.loads(i.value_json) for i in record.run.config.update}
        elif record.HasField("artifact") and record.artifact.type == "model":
            artifacts.append((record.artifact.name, [content.path for content in record.artifact.manifest.contents]))
    return {"history": history, "config": config, "artifacts": artifacts}


def leveldb_log_records(log, block_size=32768):
    """The records of a LevelDB log: chunks of checksum (4), length (2) and kind (1), none across a block's end."""
    position, record = 7, b""
    log = bytes(7) + log
    while position + 7 <= len(log):
        left = block_size - position % block_size
        if left < 7:
            position += left
            continue
        length, kind = int.from_bytes(log[position + 4 : position + 6], "little"), log[position + 6]
        record += log[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or last part
            yield record
            record = b""
