"""Bad input: one clear line with the remedy, before any training, and nothing written."""

import ast
import re
import signal
import subprocess
import sys
import time
from itertools import product

import numpy as np
import pytest
import torch
from conftest import CONFIGS, SCRIPTS, TINY
from omegaconf import OmegaConf

from puzzlemix.cli import script as cli_script
from puzzlemix.runtime import distributed

BAD = {
    "mixup=puzlemix": r"unknown mixup 'puzlemix'; did you mean 'puzzlemix'\?",
    "experiment=cifar100_wrn28_10_puzlemix": r"unknown experiment .* 'cifar100_wrn28_10_puzzlemix'\?",
    "attack=fgsm,pdg": r"unknown attack 'pdg'; did you mean 'pgd'\?",
    "recipe.lrr=1": r"unknown config key 'recipe\.lrr'; did you mean 'recipe\.lr'\?",
    "+recipe.epoch=3": r"unknown config key 'recipe\.epoch'; did you mean 'recipe\.epochs'\?",
    "resultsdir=x": r"unknown config key 'resultsdir'; did you mean 'results_dir'\?",
    "recipe.epochs=ten": r"recipe\.epochs=ten: expected a whole number, such as 100",
    "recipe.lr=fast": r"recipe\.lr=fast: expected a number, such as 0\.1",
    "recipe.nesterov=1": r"recipe\.nesterov=1: expected true or false",
    "recipe.epochs=null": r"recipe\.epochs must not be null",
    "recipe.epochs=0": r"recipe\.epochs must be a whole number, at least 1, not 0",
    "recipe.batch_size=1": r"recipe\.batch_size must be at least 2, not 1",
    "recipe.loss=bce": r"unknown recipe\.loss 'bce'; .*bce_on_softmax",
    "resume=maybe": r"unknown resume 'maybe'; valid: auto, never",
    "logger.wandb=offlin": r"unknown logger\.wandb 'offlin'; did you mean 'offline'\?",
    "device=gpu": r"unknown device 'gpu'",
    "dataset.num_classes=9": r"digits train: labels from 0 to 9, but num_classes=9 allows 0 to 8",
    "network.num_classes=9": r"network\.num_classes is 9, but digits has 10 classes: leave it out",
    "mixup.num_classes=11": r"mixup\.num_classes is 11, but digits has 10 classes: leave it out",
    "dataset.train_per_class=101": r"dataset\.train_per_class must be a whole number, at least 1, at most 100, not 101",
    "mixup=puzzlemix mixup.gamma=1.5": r"gamma must lie in \[0, 1\], not 1\.5",
    "mixup=puzzlemix mixup.alpha=0": r"alpha must be a finite number above 0, not 0",
    "mixup=input mixup.prob=null": r"prob must be a number, in \[0, 1\], not None",
    "mixup=manifold mixup.layers=null": r"ManifoldMixup does not take these values \(alpha=2\.0, layers=null, ",
    "mixup=puzzlemix mixup.blocks=[a]": r"blocks must be a number per side, such as 4, .*, at least 1, not a",
    "mixup=puzzlemix mixup.clean_until_epoch=abc": r"clean_until_epoch must be a whole number, at least 0, not abc",
    "mixup=puzzlemix mixup.solver=swap mixup.beta=11": r"beta is too large for solver=swap with 16 x 16 blocks",
    "mixup=manifold mixup.layers=[0,9]": r"manifold mixup needs a stage 'layer9' in the network",
    "seed=-1": r"a seed must be a whole number of 0 or more, not -1",
    "seed=null": r"seed=null: expected a whole number, such as 0",
    "log_every=0": r"log_every must be a whole number, at least 1, not 0",
    "log_every=null": r"log_every=null: expected a whole number, such as 50",
    "mixup=null": r"unknown mixup 'null'; ",
    "attack=null": r"unknown attack 'null'; ",
    "launcher=null": r"unknown launcher 'null'; valid: local, ",
    "recipe.schedule=steps recipe.lr_milestones_epochs=[a]": r"recipe\.lr_milestones_epochs must be a number, .* not a",
    "name=null": r"name must not be empty",
    "results_dir=null": r"results_dir=null: expected a name, such as results/runs",
    "results_dir=": r"results_dir must not be empty",
    "dataset.crop_padding=-1": r"dataset\.crop_padding must be a whole number, at least 0, at most 32, not -1",
    "dataset.image_size=[32]": r"dataset\.image_size must be height and width in pixels, .* not \[32\]",
    "recipe.batch_size=200 recipe.drop_last=true": r"digits has too few training images for a batch of 200: lower",
    "recipe=imagenet_fast recipe.epochs=1": r"digits has too few training images for a batch of 1024",
    "attack=fgsm attack.fgsm8.eps_255=300": r"attack 'fgsm8': eps_255, in 1/255 of the pixel range, must be a number",
    "attack=fgsm attack.fgsm8.steps=0": r"attack 'fgsm8': steps must be a whole number, at least 1, not 0",
    "attack=fgsm attack.fgsm8.eps_255=null": r"attack 'fgsm8': eps_255, .* must be a number, in \[0, 255\], not None",
    "test_batch_size=0": r"test_batch_size must be a whole number, at least 1, not 0",
    "mixup=puzzlemix mixup.prob=2": r"prob must be a number, in \[0, 1\], not 2",
    "mixup=puzzlemix mixup.n_labels=1": r"n_labels must be a whole number, at least 2, at most 256, not 1",
    "mixup=puzzlemix mixup.solver=swop": r"unknown solver 'swop'; did you mean 'swap'\?",
    "mixup=puzzlemix mixup.blocks=[64]": r"images of 32 x 32 pixels are smaller than a grid of 64 x 64 blocks",
    "dataset=cifar100 dataset.root=nowhere": r"nowhere/cifar100/train\.npz does not exist: run `python scripts",
    "dataset=image_folder": r"dataset\.\w+ must be given: add dataset\.\w+=",
    "nonsense": r"'nonsense' is not an override: write key=value",
    "name=a(b": r"name=a\(b: quote a value with spaces or special characters twice, \"name='\.\.\.'\"",
    "name=../away": r"name must not leave results_dir: \.\./away",
    "recipe=cifar100_small experiment=cifar100_wrn28_10_vanilla": (
        r"recipe=cifar100_small has its own dataset and network: leave out experiment=, add mixup="
    ),
    "recipe.lr_factor=-1": r"recipe\.lr_factor must be above 0, not -1",
}


@pytest.mark.parametrize("overrides", BAD)
def test_bad_input_is_one_line_and_writes_nothing(script, tmp_path, monkeypatch, overrides):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=BAD[overrides]) as stop:
        script("train", "attack=none", f"results_dir={tmp_path}/runs", *overrides.split())
    assert "\n" not in str(stop.value)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("mixup=vanilla,puzlemix", "unknown mixup 'puzlemix'; did you mean 'puzzlemix'"),
        ("recipe.lrr=1,2", "recipe.lrr"),
        ("recipe.epochs=two,1", r"recipe\.epochs must be a whole number, at least 1, not two"),
        ("recipe.lr=two,1", r"a value of recipe is of the wrong type: .* 'str' and 'int'"),
        ("recipe.lr=-1,0.1", r"recipe\.lr must be above 0, not -1"),
        ("seed=range(3,0)", r"the sweep has no runs: give each key at least one value"),
    ],
)
def test_bad_input_in_a_sweep_is_told_before_it_starts(script, tmp_path, monkeypatch, sweep, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message) as stop:
        script("train", "-m", "attack=none", f"results_dir={tmp_path}/runs", sweep)
    assert "\n" not in str(stop.value)
    assert {path.name for path in (tmp_path / "runs").rglob("*")} <= {"multirun.yaml"}  # Hydra's record of the sweep


def test_bad_input_is_told_once_a_machine(script, monkeypatch):
    """Of one that it is wrong on alone, no other machine would tell."""
    monkeypatch.setattr(cli_script, "WAIT_FOR_FIRST_S", 0.0)
    monkeypatch.setenv("RANK", "2")
    for local_rank, told in (("0", "error: unknown mixup 'cutmx'; did you mean 'cutmix'?"), ("1", 1)):
        monkeypatch.setenv("LOCAL_RANK", local_rank)
        with pytest.raises(SystemExit) as end:
            script("train", "mixup=cutmx")
        assert end.value.code == told


def test_ctrl_c_says_so_and_the_run_can_go_on(tmp_path):
    command = [sys.executable, SCRIPTS / "train.py", *TINY, f"results_dir={tmp_path}", "name=run", "recipe.epochs=500"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which shells ignore in the background
    )
    log = tmp_path / "run" / "seed0" / "log.jsonl"
    while process.poll() is None and not (log.is_file() and log.read_text().count("\n") >= 2):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate() == (None, "interrupted\n")
    assert process.returncode == 130
    assert (log.parent / "checkpoints" / "last.pt").is_file()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_cuda_asked_for_and_absent(script, tmp_path):
    with pytest.raises(SystemExit, match="device=cuda, but torch sees no GPU here: use device=cpu or device=auto"):
        script("train", "device=cuda", f"results_dir={tmp_path}/runs")
    assert not any(tmp_path.iterdir())


def test_errors_reach_the_shell_as_one_line_and_status_1(tmp_path):
    command = [sys.executable, SCRIPTS / "train.py", "mixup=puzlemix", f"results_dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: unknown mixup 'puzlemix'; did you mean 'puzzlemix'?\n"
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([], "network=preactresnet18_narrow and recipe=digits, made for digits: add network= and recipe=, or take"),
        (["network=wrn28_10"], "recipe=digits, made for digits: add recipe=, or take an experiment="),
        (["recipe=cifar100_60", "network=preactresnet18"], None),
        (["experiment=cifar100_wrn28_10_vanilla"], None),
        (["recipe=cifar100_small"], None),
    ],
)
def test_another_dataset_with_the_defaults_of_digits_is_warned_of(script, tmp_path, capsys, overrides, told):
    where = (f"dataset.root={tmp_path}", f"results_dir={tmp_path}", "device=cpu")
    with pytest.raises(SystemExit, match=r"cifar100/train\.npz does not exist"):
        script("train", "dataset=cifar100", *overrides, *where)
    warned = capsys.readouterr().err
    assert (f"warning: cifar100 with {told}" in warned) if told else not warned


@pytest.mark.parametrize("name", ["train", "evaluate", "prepare_data", "visualize", "compare", "report"])
def test_help_is_what_the_script_and_its_config_say(script, capsys, name):
    script(name, "--help")
    shown = capsys.readouterr().out
    path = CONFIGS / f"{name}.yaml"
    assert shown.startswith(ast.get_docstring(ast.parse((SCRIPTS / f"{name}.py").read_text())))
    assert path.read_text() in shown
    for group in {"train": ("mixup", "sweep"), "evaluate": ("attack",), "prepare_data": ("dataset",)}.get(name, ()):
        listed = re.search(rf"^{group}: (.*)$", shown, re.MULTILINE).group(1).split(", ")
        assert set(listed) == {path.stem for path in (CONFIGS / group).iterdir()}


def test_the_config_of_a_command_line_can_be_seen(script, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script("train", "mixup=puzzlemix", "mixup.beta=0.7", "--cfg", "job")
    assert OmegaConf.create(capsys.readouterr().out).mixup.beta == 0.7
    for several, shows in product(("sweep=digits_table", "-m"), (["--cfg", "job"], ["--cfg=job"])):
        with pytest.raises(SystemExit, match=r"^error: --cfg shows the config of one run: leave out sweep= and -m$"):
            script("train", several, *shows)
    assert not any(tmp_path.iterdir())


def test_a_bug_keeps_its_traceback(script, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "join", lambda device: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        script("train", f"results_dir={tmp_path}")


def test_a_torchvision_that_does_not_match_torch(script, tmp_path, monkeypatch):
    """A torchvision built for another torch fails at its import, as this one does."""
    package = tmp_path / "path" / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")\n')
    monkeypatch.syspath_prepend(package.parent)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit) as end:
        script("train", *TINY, f"results_dir={tmp_path}/runs")
    told = end.value.code
    assert told.startswith(f"error: torchvision does not load with torch {torch.__version__} (operator")
    assert "pip install -r requirements.txt" in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.unlink(), "does not exist: give a checkpoint"),
        (
            lambda p: (p.unlink(), p.mkdir()),
            r"last\.pt is a folder: give a checkpoint, such as .*/last\.pt",
        ),
        (lambda p: p.write_bytes(b"junk"), "is damaged or not a checkpoint"),
        (lambda p: p.write_bytes(p.read_bytes()[:-200]), "is damaged or not a checkpoint"),
        (lambda p: torch.save({"weights": torch.ones(3)}, p), "is not a checkpoint of this repository"),
    ],
)
@pytest.mark.parametrize("name", ["evaluate", "visualize"])
def test_checkpoints_that_cannot_be_read(copied, script, damage, message, name):
    path = copied / "checkpoints" / "last.pt"
    damage(path)
    with pytest.raises(SystemExit, match=message):
        script(name, f"checkpoint={path}")
    assert not list(path.parent.glob("*.json"))


def test_a_checkpoint_of_another_network(copied, script):
    path = copied / "checkpoints" / "last.pt"
    content = torch.load(path)
    content["config"]["network"]["initial_channels"] = 8
    torch.save(content, path)
    with pytest.raises(
        SystemExit, match=r"is a checkpoint of another network \(size mismatch for conv1.*\): give another checkpoint"
    ):
        script("evaluate", f"checkpoint={path}")


def test_a_damaged_dataset(script, tmp_path):
    folder = tmp_path / "data" / "cifar10"
    folder.mkdir(parents=True)
    arrays = {"x": np.zeros((10, 32, 32, 3), np.uint8), "y": np.arange(10), "classes": np.array(list("abcdefghij"))}
    for split in ("train", "test"):
        np.savez(folder / f"{split}.npz", **arrays)
    options = ("dataset=cifar10", f"dataset.root={tmp_path}/data", f"results_dir={tmp_path}/runs")
    with pytest.raises(SystemExit, match=r"cifar10 train: 10 images instead of 50000: delete .*prepare_data\.py"):
        script("train", *options)
    path = folder / "test.npz"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(
        SystemExit, match=r"test\.npz is damaged .*: delete it and run `python scripts/prepare_data\.py"
    ):
        script("train", *options, "dataset.train_images=null")
    assert not (tmp_path / "runs").exists()


def test_nothing_to_evaluate(script):
    with pytest.raises(SystemExit, match="checkpoint must be given: add checkpoint="):
        script("evaluate")
