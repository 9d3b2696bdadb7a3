"""Checkpoints are whole or not there."""

import signal

import pytest
import torch

from puzzlemix.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def interrupt_soon():
    """`interrupt_soon(seconds)`: Ctrl-C after that long."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_an_interrupted_save_leaves_the_last_checkpoint_and_is_an_interrupt(tmp_path, interrupt_soon):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"config": {}, "network": {}, "epoch": 1})
    weights = {str(i): torch.zeros(2**20) for i in range(500)}  # 2 GB
    interrupt_soon(0.1)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"config": {}, "network": weights, "epoch": 2})
    assert load_checkpoint(path)["epoch"] == 1
