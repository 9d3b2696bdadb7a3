"""Files of the authors' releases become checkpoints of ours; code that a file names does not run."""

import contextlib
import functools
import json
import os
import pickle
import random
import struct
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import CONFIGS
from torch import nn

from puzzlemix.cli.config import build, load_experiment
from puzzlemix.networks import preactresnet18, wide_resnet
from puzzlemix.runtime.checkpoint import load_checkpoint, load_weights
from puzzlemix.runtime.errors import InputError
from puzzlemix.training.release_checkpoint import read_release_checkpoint

DIGITS = {"mean": (0.305,) * 3, "std": (0.323,) * 3}
FORMATS = {"zip": True, "legacy": False}
NETWORK = ("--network", "preactresnet18_narrow")
DATASET = ("--dataset", "digits")


class RecorderMeter:
    """The authors' class, after three of five epochs."""

    def __init__(self, hidden):
        self.total_epoch, self.current_epoch, self.hidden = 5, 3, hidden
        self.epoch_losses = np.full((5, 2), -1, np.float32)
        self.epoch_accuracy = np.zeros((5, 2), np.float32)
        self.epoch_accuracy[:3] = (15, 30.25), (31, 62.5), (30, 61)


@pytest.fixture
def release(tmp_path, monkeypatch):
    """`release(network)`: a file as main.py of the release saves it after a step, in DataParallel with momentum.

    `changes` replace what it holds; `hidden` is one more attribute of the recorder.
    """

    def save(network, format_="zip", module="logger", changes=(), hidden=None):
        parallel = nn.DataParallel(network)
        optimizer = torch.optim.SGD(parallel.parameters(), 0.01, momentum=0.9, weight_decay=1e-4, nesterov=True)
        network(torch.rand(4, 3, 32, 32)).square().sum().backward()
        optimizer.step()
        content = {
            "epoch": 4,
            "arch": "preactresnet18",
            "state_dict": parallel.state_dict(),
            "recorder": RecorderMeter(hidden),
            "optimizer": optimizer.state_dict(),
        }
        path = tmp_path / "model_best.pth.tar"
        with monkeypatch.context() as patch:  # as if the class were of their module, which is gone afterwards
            patch.setattr(RecorderMeter, "__module__", module)
            patch.setitem(sys.modules, module, SimpleNamespace(RecorderMeter=RecorderMeter))
            torch.save({**content, **dict(changes)}, path, _use_new_zipfile_serialization=FORMATS[format_])
        return path

    return save


@pytest.fixture
def bring(script, tmp_path, monkeypatch, capsys):
    """`bring(path, ...)`: the script, in this process, in an empty folder; gives the lines that it prints."""
    monkeypatch.chdir(tmp_path)

    def run(path, *arguments):
        capsys.readouterr()
        script("import_checkpoint", str(path), *arguments)
        return capsys.readouterr().out.splitlines()

    return run


def narrow(num_classes=10):
    torch.manual_seed(0)
    return preactresnet18(num_classes, initial_channels=16, stride=2, **DIGITS)


# What is imported.


@pytest.mark.parametrize(("format_", "module"), [("legacy", "utils"), ("zip", "logger")])
def test_logits_and_claims_are_those_that_were_saved(release, bring, tmp_path, format_, module):
    network, images = narrow(), torch.rand(20, 3, 32, 32)
    path = release(network, format_, module)
    if format_ == "legacy":  # as NumPy 1 wrote arrays, and torch 1.1 tensors of a GPU
        here, there = (b"X" + struct.pack("<I", len(device)) + device for device in (b"cpu", b"cuda:0"))
        data = path.read_bytes()
        assert here in data
        path.write_bytes(data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray").replace(here, there))
    assert bring(path, *NETWORK, *DATASET, "--output=kept/mine.pt") == [
        "claims: arch preactresnet18, epoch 4",
        "claims: accuracy 61.00 % after the last of 3 epochs, 62.50 % after the best",
        "kept/mine.pt",
    ]
    imported = load_experiment("kept/mine.pt", CONFIGS, torch.device("cpu"), with_data=False)
    with torch.no_grad():
        assert torch.equal(imported.experiment.network.eval()(images), network.eval()(images))
    assert imported.epochs is None
    digest = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
    said = {"file": "model_best.pth.tar", "sha256": digest, "does_not_say": ["mixup", "recipe", "seed"]}
    content = load_checkpoint("kept/mine.pt")
    assert set(content) == {"config", "network"}
    assert content["config"]["imported_from"] == said
    recorded = {"recorded_epochs": 3, "last_accuracy": 61.0, "best_accuracy": 62.5}
    assert json.loads((tmp_path / "kept" / "mine.json").read_text()) == {
        **said,
        "network": "preactresnet18_narrow",
        "dataset": "digits",
        "claims": {"arch": "preactresnet18", "epoch": 4, **recorded},
    }


@pytest.mark.parametrize(
    ("classes", "dataset", "stride"), [(10, "cifar10", 1), (100, "cifar100", 1), (200, "tiny_imagenet", 2)]
)
def test_dataset_and_stride_follow_from_the_classes(release, bring, classes, dataset, stride):
    """A stride changes no shape: a wrong one would load, and evaluate to nonsense."""
    bring(release(wide_resnet(28, 2, classes, **DIGITS)), "--network", "wrn28_2", "--output=x.pt")
    config = load_checkpoint("x.pt")["config"]
    assert (config["dataset"]["name"], config["network"]["stride"]) == (dataset, stride)
    assert build(config).network.normalize.mean.flatten().tolist() == pytest.approx(config["dataset"]["mean"])


def test_names_without_data_parallel_and_tensors_cut_from_one(release, bring):
    together = torch.rand(128, 30)
    linear = {"linear.weight": together[:, 7:17].T, "linear.bias": together[3, :10]}
    state = {**narrow().state_dict(), **linear}
    bring(release(narrow(), changes={"state_dict": state}), *NETWORK, *DATASET, "--output=x.pt")
    weights = load_checkpoint("x.pt")["network"]
    assert weights.keys() == state.keys()
    assert all(torch.equal(weights[name], value) for name, value in state.items())
    assert weights["linear.bias"].untyped_storage().nbytes() == 40  # and not all that it was cut from


OF_IMAGENET = {"recorder": None, "epoch": 299, "arch": "resnet", "best_err1": 21.24, "best_prec1": torch.tensor(77.5)}
NONSENSE = {"recorder": [1], "epoch": "4", "arch": "\x1b[2J", "best_err1": float("nan"), "best_prec1": torch.ones(2)}


@pytest.mark.parametrize(
    ("changes", "claims"),
    [
        (OF_IMAGENET, ["arch resnet, epoch 299", "best_err1 21.24 %", "best_prec1 77.50 %"]),
        (NONSENSE, ["nothing"]),
    ],
)
def test_claims_of_the_programs_for_imagenet_and_of_nonsense(release, bring, changes, claims):
    shown = bring(release(narrow(), changes=changes), *NETWORK, *DATASET)
    assert shown[:-1] == [f"claims: {claim}" for claim in claims]


# What is refused.


class Calls:
    """Whoever unpickles it calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


# Name: an object that holds the command, and what it is refused as.
HOSTILE = {
    "by name": (lambda command: Calls(os.system, command), "posix.system"),
    "nested": (lambda command: Calls(torch.Size, Calls(os.system, command)), "posix.system"),
    "in a list": (lambda command: [[{"deep": Calls(os.system, command)}]], "posix.system"),
    "a bound call": (lambda command: Calls(functools.partial(os.system, command)), "functools.partial"),
    "as text": (lambda command: Calls(eval, f"__import__('os').system({command!r})"), "eval"),
}


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("case", HOSTILE)
def test_what_would_run_is_refused_by_name_and_does_not_run(release, bring, tmp_path, case, format_):
    marker = tmp_path / "marker"
    make, name = HOSTILE[case]
    hostile = make(f"touch {marker}")
    path = release(narrow(), format_, hidden=hostile)
    with pytest.raises(SystemExit) as stop:
        bring(path, *NETWORK)
    assert str(stop.value) == f"error: {path} would run {name}: refused, nothing was run"
    assert not marker.exists()
    assert not (tmp_path / "models").exists()
    with contextlib.suppress(TypeError):
        pickle.loads(pickle.dumps(hostile, 2))
    assert marker.exists()  # so this was a real attack


def cut_to(part):
    return lambda path: path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.unlink(), r"does not exist: give a checkpoint, such as checkpoint\.pth\.tar"),
        (lambda p: (p.unlink(), p.mkdir()), r"is a folder: give a checkpoint, such as .*/checkpoint\.pth\.tar"),
        (lambda p: p.write_bytes(b""), r"is damaged or not a checkpoint \(EOFError\): restore it, or delete it"),
        (lambda p: p.write_bytes(b"junk"), "is damaged or not a checkpoint"),
        *((cut_to(part), "is damaged or not a checkpoint") for part in (0.001, 0.2, 0.9, 0.9999)),
        (lambda p: p.write_bytes(pickle.dumps(Calls(os.system, f"rm {p}"), 4)), "is damaged or not a checkpoint"),
        (lambda p: torch.save([1], p), "has no 'state_dict': give a file that the release's training"),
        (lambda p: torch.save({"config": {}, "network": {}}, p), "has no 'state_dict': give a file that"),
        (lambda p: torch.save({"state_dict": {"a": 1}}, p), "the 'state_dict' of .* holds more than tensors: give"),
        (
            lambda p: torch.save({"state_dict": {"a": torch.ones(2)}}, p),
            "has no last layer, so it is not a classifier: give",
        ),
    ],
)
@pytest.mark.parametrize("format_", FORMATS)
def test_files_that_cannot_be_read(release, bring, tmp_path, damage, message, format_):
    path = release(narrow(), format_)
    damage(path)
    with pytest.raises(SystemExit, match=f"^error: [^\n]*{message}[^\n]*$"):
        bring(path, *NETWORK)
    assert not (tmp_path / "models").exists()


def test_any_damage_of_a_legacy_file_is_one_line(release):
    """It has no checksums: where a bit flips in the pickle, either it still reads, or the error is one line."""
    path = release(narrow(), "legacy")
    whole, rng, errors = path.read_bytes(), random.Random(0), []
    begin = whole.index(b"state_dict")
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[rng.randrange(begin, begin + 8000)] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            load_weights(narrow(), read_release_checkpoint(path).weights, path)
        except InputError as error:
            errors.append(str(error))
    assert len(errors) > 10
    assert not any("\n" in line for line in errors)


@pytest.mark.parametrize(
    ("bias", "message"),
    [
        (torch.full((10,), torch.nan), "holds weights that are not finite: its training diverged"),
        (torch.ones(10).to_sparse(), "is a checkpoint of another network|does not work here"),
        (torch.ones(10, device="meta"), "is a checkpoint of another network|does not work here"),
    ],
)
def test_weights_that_are_no_finite_numbers_are_refused(bring, tmp_path, bias, message):
    path = tmp_path / "file.pth.tar"
    torch.save({"state_dict": {**narrow().state_dict(), "linear.bias": bias}}, path)
    with pytest.raises(SystemExit, match=f"^error: [^\n]*{message}"):
        bring(path, *NETWORK, *DATASET)


# What cannot be imported.

PATTERN = "configs/dataset/image_folder.yaml is a template: copy it to NAME.yaml"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--network", "resnet19"), "unknown --network 'resnet19'; did you mean 'resnet18'?"),
        ((*NETWORK, "--dataset", "cifar11"), "unknown --dataset 'cifar11'; did you mean 'cifar10'?"),
        ((*NETWORK, "--dataset", "cifar100"), "has 10 classes, cifar100 has 100: give the --dataset that"),
        ((*NETWORK, "--dataset", "image_folder"), PATTERN),
        ((*NETWORK, *DATASET, "--output", "x.tar"), "unknown ending of --output '.tar'; did you mean '.pt'?"),
        ((), "the following arguments are required: --network: see import_checkpoint.py --help"),
        ((*NETWORK, "--netwrk=x"), "unrecognized arguments: --netwrk=x: see import_checkpoint.py --help"),
    ],
)
def test_arguments_that_cannot_work(release, bring, tmp_path, arguments, message):
    path = release(narrow())
    with pytest.raises(SystemExit) as stop:
        bring(path, *arguments)
    assert str(stop.value).startswith("error: ")
    assert message in str(stop.value)
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("make", "network", "reason"),
    [
        (narrow, "preactresnet34", r"Missing key\(s\) in state_dict: \"layer1\.2\.bn1\.weight\", .* \.\.\."),
        (narrow, "preactresnet18", r"size mismatch for conv1\.weight: .* is torch\.Size\(\[64, 3, 3, 3\]\)"),
        (lambda: wide_resnet(28, 2, 10, **DIGITS), NETWORK[1], r"(Missing|Unexpected) key\(s\) in state_dict: .*"),
    ],
)
def test_another_network_is_named_with_its_first_difference(release, bring, make, network, reason):
    wanted = rf"^error: \S* is a checkpoint of another network \({reason}\): give the --network that it belongs to$"
    with pytest.raises(SystemExit, match=wanted) as stop:
        bring(release(make()), "--network", network, *DATASET)
    assert len(str(stop.value)) < 400


def test_a_number_of_classes_of_no_release_needs_its_dataset(release, bring):
    with pytest.raises(SystemExit, match="no dataset of the releases has 37 classes: give --dataset"):
        bring(release(narrow(37)), *NETWORK)


@pytest.mark.parametrize("there", ["model_best.pt", "model_best.json"])
def test_what_is_there_is_not_replaced(release, bring, tmp_path, there):
    path = release(narrow())
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / there).write_text("mine")
    with pytest.raises(SystemExit, match=f"models/{there} already exists: give another --output, or delete it"):
        bring(path, *NETWORK, *DATASET)
    assert [(file.name, file.read_text()) for file in (tmp_path / "models").iterdir()] == [(there, "mine")]


def test_help_says_how(script, capsys):
    with pytest.raises(SystemExit, match="0"):
        script("import_checkpoint", "--help")
    shown = capsys.readouterr().out
    assert "python scripts/import_checkpoint.py checkpoint.pth.tar --network preactresnet18" in shown
    assert all(option in shown for option in ("--network", "--dataset", "--output"))
