"""The worked examples run, and learn something."""

import importlib.util
import re

import nbformat
import pytest
import torch
from conftest import SCRIPTS
from nbclient import NotebookClient

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


def test_depth_and_masks_are_mixed_as_the_images(example):
    shapes, pixels = example("masks_and_depth").main(steps=250)
    assert shapes > 0.8
    assert pixels > 0.85


def test_the_notebook_runs_and_its_steps_give_the_whole():
    notebook = nbformat.read(EXAMPLES / "puzzle_mix.ipynb", as_version=4)
    assert all(cell.outputs == [] for cell in notebook.cells if cell.cell_type == "code")  # kept without
    NotebookClient(notebook, timeout=200, kernel_name="python3").execute()  # its last cell compares
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    told = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert float(re.match(r"([\d.]+) % of 297 other digits are right", told)[1]) > 70
    assert "a step on mixed images: loss" in told
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 6
