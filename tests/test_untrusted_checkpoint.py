"""Checkpoints of others: they run nothing but what the user's own configs name, and wrong ones end in one line."""

import pickle
import shutil
import socket
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS, SCRIPTS, TINY
from test_readme import blocks

import puzzlemix.mixing
from puzzlemix.cli.config import build, compose, load_experiment, plain
from puzzlemix.cli.overrides import options
from puzzlemix.runtime.checkpoint import load_checkpoint, save_checkpoint
from puzzlemix.runtime.errors import InputError

CPU = torch.device("cpu")
PARTS = ("dataset", "network", "mixup", "recipe")
HUGE = 10**6


@cache
def run_of(*overrides, configs=CONFIGS):
    choices = ("name=any", "choices.network=any", "choices.mixup=any")
    config = plain(compose(configs, [*TINY, *choices, *overrides]))
    return {"config": config, "network": build(config).network.state_dict(), "epoch": 2}


def checkpoint_of(*overrides, configs=CONFIGS):
    """What a run's checkpoint holds, of a network as it is initialised."""
    return deepcopy(run_of(*overrides, configs=configs))


@pytest.fixture
def refused(tmp_path):
    """`refused(content, message)`: a file that holds this does not load, and the error is one line with the message."""

    def load(content, message):
        path = tmp_path / "foreign.pt"
        torch.save(content, path)
        with pytest.raises(InputError, match=message) as error:
            load_experiment(str(path), CONFIGS, CPU)
        assert "\n" not in str(error.value)

    return load


# What would run.


class RunsWhenUnpickled:
    def __init__(self, touched):
        self.touched = touched

    def __reduce__(self):
        return Path.touch, (self.touched,)


class Trap:
    """A file that an attack would delete, one that it would unpickle, a server that it would ask."""

    def __init__(self, folder):
        self.victim, self.pickled, self.touched = (folder / name for name in ("victim", "pickled", "touched"))
        self.victim.touch()
        self.pickled.write_bytes(pickle.dumps(RunsWhenUnpickled(self.touched)))
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.setblocking(False)

    def untouched(self):
        try:
            self.server.accept()[0].close()
        except BlockingIOError:
            return self.victim.exists() and not self.touched.exists()
        return False

    @property
    def unlink(self):
        return {
            "_target_": "pathlib.Path.unlink",
            "self": {"_target_": "pathlib.Path", "_args_": [str(self.victim)]},
        }

    @property
    def torch_load(self):
        return {"_target_": "torch.load", "f": str(self.pickled), "weights_only": False}

    @property
    def numpy_load(self):
        return {"_target_": "numpy.load", "file": str(self.pickled), "allow_pickle": True}

    @property
    def urlopen(self):
        url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        return {"_target_": "urllib.request.urlopen", "url": url, "timeout": 0.1}


@pytest.fixture
def trap(tmp_path):
    trap = Trap(tmp_path)
    yield trap
    trap.server.close()


AUGMENTATION = {"_target_": "puzzlemix.mixing.Augmentation"}
ATTACKS = {
    "torch.load as a value": lambda config, trap: config["mixup"].update(prob=trap.torch_load),
    "pathlib.Path.unlink": lambda config, trap: config.update(dataset=trap.unlink),
    "numpy.load": lambda config, trap: config.update(network=trap.numpy_load),
    "urlopen": lambda config, trap: config.update(mixup=trap.urlopen),
    "in a list": lambda config, trap: config["mixup"].update(prob=[0.5, [trap.unlink]]),
    "in the recipe": lambda config, trap: config["recipe"].update(phases=[trap.unlink]),
    "a known target in another place": lambda config, trap: config["dataset"].update(mean=AUGMENTATION),
    "a known target of another part": lambda config, trap: config.update(mixup=config["dataset"]),
    "_args_": lambda config, trap: config["mixup"].update(_args_=[trap.unlink]),
    "plain _args_": lambda config, trap: config["mixup"].update(_args_=[1]),
    "_partial_": lambda config, trap: config["mixup"].update(_partial_=True),
    "_recursive_": lambda config, trap: config["mixup"].update(_recursive_=False),
    "_convert_": lambda config, trap: config["mixup"].update(_convert_="all"),
    "the environment": lambda config, trap: config["dataset"].update(name="${oc.env:HOME}"),
    "a reference of ours": lambda config, trap: config["mixup"].update(num_classes="${dataset.num_classes}"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_runs_but_what_our_own_configs_name(refused, trap, attack):
    content = checkpoint_of()
    ATTACKS[attack](content["config"], trap)
    refused(content, "nothing was run")
    assert trap.untouched()


@pytest.mark.parametrize("command", ["evaluate checkpoint={}", "visualize checkpoint={}", "benchmarks solvers {}"])
def test_no_script_runs_it(script, trap, tmp_path, command):
    content = checkpoint_of()
    content["config"]["mixup"]["prob"] = trap.torch_load
    torch.save(content, tmp_path / "foreign.pt")
    name, *arguments = command.replace(" {}", " --checkpoint={}").format(tmp_path / "foreign.pt").split()
    with pytest.raises(
        SystemExit, match=r"^error: .*foreign\.pt has mixup\.prob\._target_=torch\.load .* nothing was run"
    ):
        script(name, *arguments)
    assert trap.untouched()


@pytest.mark.parametrize("method", options(CONFIGS / "mixup"))
def test_a_checkpoint_of_every_method_loads(tmp_path, method):
    save_checkpoint(tmp_path / "last.pt", checkpoint_of(f"mixup={method}"))
    assert load_experiment(str(tmp_path / "last.pt"), CONFIGS, CPU).epochs == 2


@pytest.mark.parametrize("weights", [*(SCRIPTS.parent / "models").glob("*.pt")], ids=lambda path: path.stem)
def test_weights_that_are_kept_here_load(weights):
    epochs = load_checkpoint(weights)["config"]["recipe"]["epochs"]
    assert load_experiment(str(weights), CONFIGS, CPU, with_data=False).epochs == epochs


def test_a_method_of_ones_own_loads_where_a_config_names_it(tmp_path, monkeypatch):
    (tmp_path / "halfmix.py").write_text(blocks("docs/adding.md", "python")[0])
    monkeypatch.setattr(puzzlemix.mixing, "__path__", [*puzzlemix.mixing.__path__, str(tmp_path)])
    configs = shutil.copytree(CONFIGS, tmp_path / "configs")
    (configs / "mixup" / "halfmix.yaml").write_text(blocks("docs/adding.md", "yaml")[0])
    path = tmp_path / "last.pt"
    save_checkpoint(path, checkpoint_of("mixup=halfmix", configs=configs))
    assert type(load_experiment(str(path), configs, CPU).experiment.mixer).__name__ == "HalfMix"
    with pytest.raises(InputError, match=r"has mixup\._target_=puzzlemix\.mixing\.halfmix\.HalfMix in its config"):
        load_experiment(str(path), CONFIGS, CPU)


# What does not fit.


def endless():
    """A list that holds itself."""
    value = []
    value.append(value)
    return value


def nested(levels):
    value = 0
    for _ in range(levels):
        value = {"deeper": value}
    return value


def parts_that_are(values):
    return {
        f"{part} {value}": (lambda content, part=part, value=value: content["config"].update({part: value}), part)
        for part in PARTS
        for value in values
    }


def weights_that_are(values):
    return {
        f"weights {value!r:.20}": (
            lambda content, value=value: content["network"].update({"conv1.weight": value}),
            "is a checkpoint of another network|does not work here",
        )
        for value in values
    }


WRONG = {
    **{
        f"config {value}": (lambda content, value=value: content.update(config=value), "'config' of a run")
        for value in (None, [], "text", 5, {1: 2}, {"dataset": torch.ones(1)})
    },
    "no config": (lambda content: content.update(config={}), "its config has no 'dataset'"),
    **parts_that_are([None, [], 5, {}]),
    "no mixup": (lambda content: content["config"].pop("mixup"), "its config has no 'mixup'"),
    "no seed": (lambda content: content["config"].pop("seed"), "its config has no 'seed'"),
    "a seed of text": (lambda content: content["config"].update(seed="a"), "a seed must be a whole number"),
    "an empty phase": (
        lambda content: content["config"]["recipe"].update(schedule="steps", phases=[{}]),
        "does not work here",
    ),
    "an epoch of text": (lambda content: content.update(epoch="a"), "its epoch is not a whole number"),
    "an endless list": (lambda content: content["config"]["dataset"].update(mean=endless()), "'config' of a run"),
    "a deep dict": (lambda content: content["config"].update(logger=nested(100)), "'config' of a run"),
    **{
        f"network {value}": (lambda content, value=value: content.update(network=value), "another network|not work")
        for value in (None, [], 5, {}, {1: torch.ones(100_000)}, {"w": torch.ones(100_000)})
    },
    **weights_that_are(["text", None, torch.ones(1).expand(10**6, 10**6), torch.ones(4, 3, 3, 3, device="meta")]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_parts_end_in_a_line(refused, wrong):
    content = checkpoint_of()
    change, message = WRONG[wrong]
    change(content)
    refused(content, message)


SIZES = {
    "channels": ({"network.initial_channels": HUGE}, "does not work here"),
    "more channels": ({"network.initial_channels": 10**11}, "does not work here"),
    "classes": ({f"{part}.num_classes": HUGE for part in PARTS[:3]}, "is a checkpoint of another network"),
    "classes of the dataset": ({"dataset.num_classes": HUGE}, "digits has 1000000 classes"),
    "image size": ({"dataset.image_size": [HUGE, HUGE]}, "image_size must be height and width .* at most 4096"),
    "digits' image size": ({"dataset.image_size": [1000, 1000]}, "enlarged to at most 256 pixels per side"),
    "padding": ({"dataset.crop_padding": HUGE}, "crop_padding must be a whole number, at least 0, at most 32"),
    "labels": ({"mixup.n_labels": HUGE}, "n_labels must be a whole number, at least 2, at most 256"),
    "blocks": ({"mixup.blocks": [HUGE]}, "are smaller than a grid of 1000000 x 1000000 blocks"),
}


@pytest.mark.parametrize("size", SIZES)
def test_huge_sizes_end_in_a_line(refused, size):
    content = checkpoint_of("mixup=puzzlemix")
    changes, message = SIZES[size]
    for key, value in changes.items():
        part, _, name = key.partition(".")
        content["config"][part][name] = value
    refused(content, message)


# What is said.


def test_a_files_text_reaches_the_terminal_without_control_characters(script, tmp_path, capsys):
    content, path = checkpoint_of(), tmp_path / "foreign.pt"
    arguments = (f"checkpoint={path}", "attack=none", "corruptions=auto", "device=cpu")
    content["config"]["recipe"]["loss"] = "bce\x1b[2J\x9b31m"
    torch.save(content, path)
    with pytest.raises(SystemExit, match=r"unknown recipe\.loss 'bce\?\[2J\?31m'") as end:
        script("evaluate", *arguments)
    content["config"]["dataset"]["name"] = "digits\x1b[2J\x9b31m"
    torch.save(content, path)
    with pytest.raises(SystemExit):
        script("evaluate", *arguments)
    told = capsys.readouterr()
    assert not {"\x1b", "\x9b"} & {*told.out, *told.err, *str(end.value)}


@pytest.mark.parametrize("key", ["workers", "image_size", "test_resize"])
def test_huge_numbers_of_a_folder_of_images_end_in_a_line(refused, key):
    pytest.importorskip("torchvision")
    content = checkpoint_of()
    huge = [HUGE, HUGE] if key == "image_size" else HUGE
    folders = {"_target_": "puzzlemix.data.folders.ImageFolders", "name": "imagenet", "num_classes": 10}
    content["config"]["dataset"] = {**folders, "image_size": [32, 32], "mean": [0] * 3, "std": [1] * 3, key: huge}
    refused(content, rf"dataset\.{key} must .* at most")
