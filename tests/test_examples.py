"""The worked examples run, and learn something."""

import importlib.util

import pytest
import torch
from conftest import SCRIPTS

EXAMPLES = SCRIPTS.parent / "examples"


@pytest.fixture
def example():
    """`example("plain_loop")`: the module."""

    def load(name):
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_the_plain_loop_learns_digits(example):
    assert example("plain_loop").main(epochs=2) > 0.7


def test_the_timm_model_trains_on_spectrograms(example):
    spectrograms = example("spectrograms")
    torch.manual_seed(0)
    images = spectrograms.spectrograms(spectrograms.sounds(8)[0])
    assert images.shape == (8, 1, 33, 63)
    assert images.min() == 0
    assert images.max() == 1
    assert 0 <= spectrograms.main(steps=3) <= 1
