"""scripts/evaluate.py as a user has it: suites, sets of corrupted images, checkpoints from elsewhere, kills."""

import json
import os
import re
import signal
import zipfile

import numpy as np
import pytest
import torch
from conftest import CONFIGS

from puzzlemix.cli.config import load_experiment, plain
from puzzlemix.cli.script import ASKED_TO_STOP
from puzzlemix.evaluation.attacks import attack, attack_options
from puzzlemix.evaluation.evaluator import KeptTotals

MACHINE_AND_TIME = {"checkpoint", "git_commit", "machine", "python", "torch", "date"}


@pytest.fixture
def checkpoint(copied):
    return copied / "checkpoints" / "last.pt"


def results_of(checkpoint):
    return json.loads(checkpoint.parent.with_name("robustness.json").read_text())


def numbers(results):
    return {key: value for key, value in results.items() if key not in MACHINE_AND_TIME}


# --- what is measured ---


@pytest.mark.parametrize("suite", ["paper", "full"])
def test_a_suite_has_every_attack_that_is_asked_of_it(hydra_configs, suite):
    import hydra

    config = plain(hydra.compose("evaluate", ["checkpoint=any", f"suite={suite}"]))
    attacks = {
        (options["eps"] * 255, options["step"] * 255, options["steps"], options["random_start"])
        for options in (attack_options(name, settings) for name, settings in config["attack"].items())
    }
    attacks = {tuple(round(value, 6) for value in one) for one in attacks}
    paper = {(8, 8, 1, False), (4, 2, 20, True), (4, 1, 7, True), (8, 2, 7, True)}
    assert paper <= attacks
    assert config["corruptions"] == "auto"
    if suite == "full":
        assert {(eps, eps, 1, False) for eps in (1, 2, 4, 8, 16)} <= attacks
        assert {(eps, eps / 2, 20, True) for eps in (1, 2, 4, 8, 16)} <= attacks
        assert max(settings.get("restarts", 1) for settings in config["attack"].values()) == 5
        assert config["auto_attack"]["eps_255"] == 8


def test_errors_are_those_of_a_plain_loop_over_the_checkpoints_network(checkpoint, script, capsys):
    options = ("attack=fgsm", "device=cpu", "test_batch_size=90", "train_images=true")
    script("evaluate", f"checkpoint={checkpoint}", *options)
    results = results_of(checkpoint)
    (data, network, *_), epochs = load_experiment(checkpoint, CONFIGS, torch.device("cpu"))
    wrong, fooled, nll = 0, 0, 0.0
    for images, labels in data.test_batches([range(k, k + 50) for k in range(0, 500, 50)]):
        fgsm = {"eps": 8 / 255, "step": 8 / 255, "steps": 1, "random_start": False}
        adversarial = attack(network, images, labels, **fgsm)
        with torch.no_grad():
            wrong += int((network(images).argmax(1) != labels).sum())
            fooled += int((network(adversarial).argmax(1) != labels).sum())
            nll += float(torch.nn.functional.cross_entropy(network(images), labels, reduction="sum"))
    known = torch.from_numpy(data.read("train").x).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        wrong_known = int((network(known).argmax(1) != torch.from_numpy(data.read("train").y)).sum())
    assert results["epochs"] == epochs == 2
    assert len(known) == 40
    assert results["train_error"] == pytest.approx(100 * wrong_known / 40)
    assert results["top1_error"] == pytest.approx(wrong / 5)
    assert results["fgsm8_error"] == pytest.approx(fooled / 5, abs=0.21)  # one of 500 images
    assert results["calibration"]["nll"] == pytest.approx(nll / 500)
    shown = capsys.readouterr().out
    assert re.search(rf"^clean +{results['top1_error']:.2f} %$", shown, re.MULTILINE)
    assert re.search(rf"^training images +{results['train_error']:.2f} %$", shown, re.MULTILINE)
    assert re.search(rf"^FGSM 8/255 +{results['fgsm8_error']:.2f} %$", shown, re.MULTILINE)


def test_a_later_evaluation_adds_to_an_earlier_one(checkpoint, script):
    script("evaluate", f"checkpoint={checkpoint}", "attack=fgsm", "device=cpu")
    first = results_of(checkpoint)
    script("evaluate", f"checkpoint={checkpoint}", "attack=pgd7_eps4", "device=cpu")
    both = results_of(checkpoint)
    assert set(both["attacks"]) == {"fgsm8", "pgd7_eps4"}
    assert both["fgsm8_error"] == first["fgsm8_error"]


# --- corrupted images ---


def test_a_partial_set_is_measured_and_the_rest_named(checkpoint, script, tmp_path, capsys):
    (data, network, *_), _ = load_experiment(checkpoint, CONFIGS, torch.device("cpu"))
    clean, y, _ = data.read("test")
    brighter = np.concatenate([np.clip(clean.astype(int) + 20 * s, 0, 255).astype(np.uint8) for s in range(1, 6)])
    folder = tmp_path / "digits-c"
    folder.mkdir()
    for name in ("brightness", "contrast"):
        np.save(folder / f"{name}.npy", brighter)
    np.save(folder / "labels.npy", np.tile(y, 5).astype(np.uint8))

    capsys.readouterr()
    script("evaluate", f"checkpoint={checkpoint}", "attack=none", f"corruptions={folder}", "device=cpu")
    said = capsys.readouterr()
    corruptions = results_of(checkpoint)["corruptions"]
    with torch.no_grad():
        answers = network(torch.from_numpy(brighter).permute(0, 3, 1, 2) / 255).argmax(1).numpy()
    wanted = (answers != np.tile(y, 5)).reshape(5, len(y)).mean(1) * 100
    assert corruptions["errors"] == {name: pytest.approx(wanted) for name in ("brightness", "contrast")}
    assert corruptions["error_of_19"] is corruptions["error_of_15"] is None
    assert len(corruptions["missing"]) == 17
    assert re.search(r"warning: .*digits-c lacks gaussian_noise, .*: the rest is measured", said.err)
    assert re.search(r"^19 corruptions +-$", said.out, re.MULTILINE)


def test_without_a_set_it_is_said_and_nothing_else_is_lost(checkpoint, script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    script("evaluate", f"checkpoint={checkpoint}", "attack=none", "corruptions=auto", "device=cpu")
    assert "there are no corrupted images of digits, so none are measured" in capsys.readouterr().err
    assert "corruptions" not in results_of(checkpoint)


def test_a_folder_that_is_not_there_is_named_before_anything_is_measured(checkpoint, script, tmp_path):
    with pytest.raises(SystemExit, match=r"nowhere does not exist: put such a set there"):
        script("evaluate", f"checkpoint={checkpoint}", f"corruptions={tmp_path}/nowhere", "device=cpu")
    assert not checkpoint.parent.with_name("robustness.json").exists()


# --- checkpoints from elsewhere ---


def test_a_checkpoint_made_on_a_gpu_is_evaluated_on_a_cpu(checkpoint, script, tmp_path):
    """The same file with the device of its tensors rewritten, as torch.save writes it on a machine with a GPU."""
    on_gpu = tmp_path / "on_gpu.pt"
    with zipfile.ZipFile(checkpoint) as read, zipfile.ZipFile(on_gpu, "w") as written:
        for part in read.infolist():
            content = read.read(part)
            if part.filename.endswith("data.pkl"):
                named = content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
                assert named != content
                content = named
            written.writestr(part, content)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load(on_gpu)
    for path in (checkpoint, on_gpu):
        script("evaluate", f"checkpoint={path}", "attack=fgsm", "device=cpu")
    ours = json.loads((tmp_path / "on_gpu_robustness.json").read_text())
    assert numbers(ours) == numbers(results_of(checkpoint))


@pytest.mark.parametrize(
    ("part", "classes", "message"),
    [
        ("dataset", 9, r"network\.num_classes is 10, but digits has 9 classes"),
        ("network", 9, r"network\.num_classes is 9, but digits has 10 classes"),
    ],
)
def test_a_network_and_a_dataset_of_other_classes(checkpoint, script, part, classes, message):
    content = torch.load(checkpoint)
    content["config"][part]["num_classes"] = classes
    torch.save(content, checkpoint)
    with pytest.raises(SystemExit, match=message):
        script("evaluate", f"checkpoint={checkpoint}", "device=cpu")


# --- kills ---


class GoneError(Exception):
    """The process is killed."""


def test_one_that_is_killed_between_measures_goes_on_to_the_same_file(checkpoint, script, tmp_path, monkeypatch):
    arguments = (f"checkpoint={checkpoint}", "attack=fgsm,pgd7_eps4", "test_batch_size=100", "device=cpu")
    whole, killed, kept = (tmp_path / name for name in ("whole.json", "killed.json", "killed_unfinished.json"))
    script("evaluate", *arguments, f"output={whole}")
    measured = []

    def keep(self, name, total, keep=KeptTotals.keep):
        if len(measured) == 2 and not going_on:
            raise GoneError
        keep(self, name, total)
        measured.append(name.split()[0])

    monkeypatch.setattr(KeptTotals, "keep", keep)
    going_on = False
    with pytest.raises(GoneError):
        script("evaluate", *arguments, f"output={killed}")
    assert not killed.exists()
    assert kept.exists()
    going_on = True
    script("evaluate", *arguments, f"output={killed}")
    assert measured == ["evaluation", "fgsm8", "pgd7_eps4", "zero_gradients", "calibration"]  # each of them once
    assert killed.read_bytes() == whole.read_bytes()
    assert not kept.exists()


def test_one_that_is_asked_to_stop_says_so_and_goes_on(checkpoint, script, tmp_path, monkeypatch, capsys):
    """In the attack after the first, whose number is kept."""
    arguments = (f"checkpoint={checkpoint}", "attack=fgsm,pgd7_eps4", "device=cpu")
    steps = []

    def signalled(*given, **options):
        steps.append(options["steps"])
        if 1 in steps and steps.count(7) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return attack(*given, **options)

    monkeypatch.setattr("puzzlemix.evaluation.evaluator.attack", signalled)
    with pytest.raises(SystemExit) as end:
        script("evaluate", *arguments, f"output={tmp_path}/stopped.json")
    said = "asked to stop: the same command goes on from what was finished\n"
    assert (end.value.code, *capsys.readouterr()) == (ASKED_TO_STOP, said, "")
    assert not (tmp_path / "stopped.json").exists()
    steps.clear()
    script("evaluate", *arguments, f"output={tmp_path}/stopped.json")
    assert set(steps) == {7}


# --- settings that cannot work ---


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("suite=ful", r"unknown suite 'ful'; did you mean 'full'\?"),
        (
            "attack=pgd attack.pgd20_eps4.eps_255=256",
            r"attack 'pgd20_eps4': eps_255, in 1/255 .* must be a number",
        ),
        ("attack=pgd attack.pgd20_eps4.steps=-1", r"attack 'pgd20_eps4': steps must be a whole number, at least 1"),
        ("attack=pgd_restarts attack.pgd20x5_eps8.restarts=0", r"restarts must be a whole number, at least 1"),
        ("seed=-1", "seed must be a whole number, at least 0"),
    ],
)
def test_settings_out_of_range_are_named_before_the_checkpoint_is_read(script, overrides, message):
    with pytest.raises(SystemExit, match=message):
        script("evaluate", "checkpoint=nowhere.pt", *overrides.split())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("auto_attack.eps_255=-8", r"auto_attack\.eps_255, in 1/255 of the pixel range, must be a number"),
        ("suite=full auto_attack.every=0", r"auto_attack\.every must be a whole number, at least 1"),
        ("corruptions=[fog]", r"corruptions must be auto or the folder of a set, not \['fog'\]"),
        ("corruptions=all", "all does not exist: put such a set there"),
    ],
)
def test_settings_out_of_range_are_named_before_anything_is_measured(checkpoint, script, overrides, message):
    with pytest.raises(SystemExit, match=message):
        script("evaluate", f"checkpoint={checkpoint}", "device=cpu", *overrides.split())
    assert not list(checkpoint.parents[1].glob("robustness*"))


def test_weights_that_are_not_finite_are_named(checkpoint, script):
    content = torch.load(checkpoint)
    content["network"]["linear.bias"][3] = torch.nan
    torch.save(content, checkpoint)
    with pytest.raises(SystemExit, match=r"last\.pt holds weights that are not finite: its training diverged"):
        script("evaluate", f"checkpoint={checkpoint}", "device=cpu")


def test_results_of_another_seed_are_not_written_over(checkpoint, script):
    script("evaluate", f"checkpoint={checkpoint}", "attack=fgsm", "device=cpu")
    before = results_of(checkpoint)
    with pytest.raises(SystemExit, match=r"robustness\.json holds results of seed=0, not 1: give another output="):
        script("evaluate", f"checkpoint={checkpoint}", "attack=fgsm", "seed=1", "device=cpu")
    assert results_of(checkpoint) == before
