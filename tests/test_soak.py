"""The soak tool: a short soak for real, and that it sees every kind of difference."""

import json
import re
import subprocess
import sys

import pytest
import torch
from conftest import SCRIPTS

from benchmarks.soak import differences
from puzzlemix.runtime.checkpoint import load_checkpoint, save_checkpoint

ROOT = SCRIPTS.parent
SOAK = sys.executable, "-m", "benchmarks.soak"


@pytest.mark.slow
def test_a_run_killed_in_training_in_a_write_and_at_the_start_ends_as_one_that_was_not():
    """Of two processes: `test_two_nodes.py`."""
    options = ("--kills=3", "--epochs=100")
    small = ("dataset.train_per_class=4", "network.initial_channels=4", "attack=none", "logger.mixed_every=0")
    done = subprocess.run([*SOAK, *options, *small], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    saved = [int(epochs) for epochs in re.findall(r"^kill \d .*, (\d+) epochs saved$", done.stdout, re.MULTILINE)]
    assert 0 < saved[1] == saved[2]
    assert saved[0] < saved[1]
    assert "no difference after 3 kills" in done.stdout


@pytest.fixture
def copies(copied, finished):
    """A run and a copy of it."""
    return copied, finished


def test_equal_runs_do_not_differ(copies):
    assert differences(*copies) == []


@pytest.mark.parametrize("part", ["network", "optimizer"])
def test_a_difference_in_the_last_bit_is_seen(copies, part):
    path = copies[0] / "checkpoints" / "last.pt"
    content = load_checkpoint(path)
    tensors = content["network"] if part == "network" else content["optimizer"]["state"][0]
    name, weights = next(iter(tensors.items()))
    tensors[name] = torch.nextafter(weights, torch.tensor(9.0))
    save_checkpoint(path, content)
    (found,) = differences(*copies)
    assert found.startswith(f"{part}: ")


def test_a_missing_and_a_changed_line_of_the_log_are_seen(copies):
    path = copies[0] / "log.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(first + "\n")
    assert differences(*copies) == ["log: 1 lines, not 2"]
    path.write_text(first + "\n" + json.dumps(json.loads(second) | {"train_loss": 0.5}) + "\n")
    assert differences(*copies) == ["log: line 1"]


def test_another_error_is_seen(copies):
    path = copies[0] / "metrics.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps(metrics | {"top1_error": 0.0}))
    assert differences(*copies) == ["metrics: top1_error"]


@pytest.mark.slow
def test_a_run_that_ends_too_early_is_told():
    options = ("--kills=1", "--epochs=1", "recipe.lr=-1")
    done = subprocess.run([*SOAK, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("error: the run ended with status 1 before kill 1: give more epochs\n")
