"""`networks.load` builds the same network as the scripts, and runs nothing that a file of somebody else's names."""

import pytest
import torch
import yaml
from conftest import CONFIGS

from puzzlemix.cli.config import build_part, compose, load_experiment, plain
from puzzlemix.networks import kept, load
from puzzlemix.runtime.checkpoint import digest, save_checkpoint
from puzzlemix.runtime.errors import InputError

WEIGHTS = sorted((CONFIGS.parent / "models").glob("*.pt"))
SMALL = {"_target_": "puzzlemix.networks.wide_resnet", "depth": 10, "widen_factor": 1, "num_classes": 2}
SMALL |= {"mean": [0.5], "std": [0.25]}


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.stem)
def test_kept_weights_are_those_that_scripts_load(path):
    network = load(path)
    theirs = load_experiment(str(path), CONFIGS, torch.device("cpu"), with_data=False).experiment.network
    pixels = torch.rand(2, 3, 32, 32)
    assert not network.training
    assert digest(network) == digest(theirs)
    assert torch.equal(network(pixels), theirs(pixels))


def test_it_knows_the_networks_of_our_configs():
    configs = [yaml.safe_load(path.read_text()) for path in (CONFIGS / "network").glob("*.yaml")]
    assert {config["_target_"] for config in configs if "_target_" in config} == set(kept.TARGETS)


@pytest.mark.parametrize("network", ["preactresnet34 network.initial_channels=4", "wrn28_2", "resnet18"])
def test_it_builds_what_a_config_says(tmp_path, network):
    given = (f"network={network}".split(), ("name=any", "choices.network=any", "choices.mixup=any"))
    config = plain(compose(CONFIGS, [override for part in given for override in part]))
    built = build_part(config["network"])
    save_checkpoint(tmp_path / "last.pt", {"config": config, "network": built.state_dict()})
    assert digest(load(tmp_path / "last.pt")) == digest(built)


UNLINK = {"_target_": "pathlib.Path.unlink", "self": "victim"}
FOREIGN = {
    "another function": (
        UNLINK,
        r"has the network pathlib\.Path\.unlink, none of puzzlemix\.networks: nothing was run",
    ),
    "a function of ours": ({"_target_": "puzzlemix.networks.load", "path": "x"}, "nothing was run"),
    "by way of ours": ({"_target_": "puzzlemix.networks.kept.Path.unlink", "self": "victim"}, "nothing was run"),
    "a list": ({"_target_": ["puzzlemix.networks.wide_resnet"]}, "nothing was run"),
    "text": ("puzzlemix.networks.wide_resnet", "nothing was run"),
    "nothing": (None, "nothing was run"),
    "as a value": (SMALL | {"mean": [UNLINK]}, "does not work here"),
    "_args_": (SMALL | {"_args_": [UNLINK]}, "does not work here"),
    "too many channels": (SMALL | {"widen_factor": 10**9}, "does not work here"),
    "other weights": (SMALL, "is a checkpoint of another network"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_it_builds_nothing_else(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "victim").touch()
    network, message = FOREIGN[what]
    torch.save({"config": {"network": network}, "network": {}}, "foreign.pt")
    with pytest.raises(InputError, match=f"^foreign.pt .*{message}") as error:
        load("foreign.pt")
    assert "\n" not in str(error.value)
    assert (tmp_path / "victim").exists()
