"""Checkpoints are whole or not there, and damage is noticed."""

import random
import resource
import signal

import pytest
import torch

from puzzlemix.checkpoint import load_checkpoint, load_newest, save_checkpoint
from puzzlemix.errors import InputError, RunError


def content(epoch, megabytes=1):
    return {"config": {}, "network": {"w": torch.rand(megabytes, 2**18)}, "epoch": epoch}


@pytest.fixture
def interrupt_soon():
    """`interrupt_soon(seconds)`: Ctrl-C after that long."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def full_disk():
    """`full_disk(bytes)`: no file grows beyond that; the system's write fails as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_interrupted_save_leaves_the_last_checkpoint_and_is_an_interrupt(tmp_path, interrupt_soon):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"config": {}, "network": {}, "epoch": 1})
    weights = {str(i): torch.zeros(2**20) for i in range(500)}  # 2 GB
    interrupt_soon(0.1)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"config": {}, "network": weights, "epoch": 2})
    assert load_checkpoint(path)["epoch"] == 1


def test_a_full_disk_stops_the_save_and_leaves_all_files_as_they_were(tmp_path, full_disk):
    last, previous = tmp_path / "last.pt", tmp_path / "previous.pt"
    for epoch in (1, 2):
        save_checkpoint(last, content(epoch), previous)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    full_disk(2**20)
    with pytest.raises(RunError, match=r"last\.pt cannot be written \(File too large\); it is as it was: make room"):
        save_checkpoint(last, content(3, megabytes=2), previous)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_checkpoint_that_was_there_is_kept(tmp_path):
    last, previous = tmp_path / "last.pt", tmp_path / "previous.pt"
    for epoch in (1, 2, 3):
        save_checkpoint(last, content(epoch), previous)
    assert [load_checkpoint(path)["epoch"] for path in (last, previous)] == [3, 2]


def test_any_damaged_byte_is_noticed(tmp_path):
    """torch.load itself returns other weights without a word."""
    path = tmp_path / "last.pt"
    save_checkpoint(path, content(1))
    whole = path.read_bytes()
    rng = random.Random(0)
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="is damaged or no checkpoint"):
            load_checkpoint(path)


def test_the_newest_whole_checkpoint_is_loaded(tmp_path):
    last, previous = tmp_path / "last.pt", tmp_path / "previous.pt"
    assert load_newest([last, previous]) is None
    for epoch in (1, 2):
        save_checkpoint(last, content(epoch), previous)
    assert load_newest([last, previous])[::2] == (last, [])
    last.write_bytes(last.read_bytes()[:1000])
    loaded = load_newest([last, previous])
    assert (loaded.path, loaded.content["epoch"], loaded.damaged) == (previous, 1, [last])
    last.unlink()
    assert load_newest([last, previous])[::2] == (previous, [])
    previous.write_bytes(b"")
    with pytest.raises(InputError, match=r"previous\.pt is damaged"):
        load_newest([last, previous])
