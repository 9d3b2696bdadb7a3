"""Bars show on a terminal, and leave files alone, however long what they show takes."""

from itertools import count
from pathlib import Path

import pytest
from conftest import on_a_terminal
from pictures import write_class_folders, write_tiny_imagenet

import puzzlemix
from puzzlemix.data.folders import write_resized_copies
from puzzlemix.data.image_folder import read_image_folder
from puzzlemix.data.tiny_imagenet import read_tiny_imagenet
from puzzlemix.evaluation.evaluator import Evaluator, clean_errors
from puzzlemix.training.progress import ProgressBar

MODULES = ("evaluator", "progress", "image_folder", "tiny_imagenet", "folders")  # that have a bar


@pytest.fixture
def work(tmp_path, network, data):
    """`work(module)()`: what a module of `MODULES` shows a bar of."""
    images = tmp_path / "pets"
    write_class_folders(images, ["ant", "bee"], 2, (90, 70))

    return {
        "evaluator": lambda: clean_errors(Evaluator(network, data, 100)),
        "progress": lambda: ProgressBar("run seed 0", 2, 0).__exit__(),
        "image_folder": lambda: read_image_folder(images, (32, 32), 0.5, 0),
        "tiny_imagenet": lambda: read_tiny_imagenet(write_tiny_imagenet(tmp_path)),
        "folders": lambda: write_resized_copies(images, tmp_path / "resized", 32),
    }.get


@pytest.mark.parametrize("module", MODULES)
def test_in_a_file_there_is_no_bar(work, module, monkeypatch, capfd):
    minutes = count(step=60.0)
    monkeypatch.setattr("tqdm.std.time", lambda: next(minutes))
    work(module)()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("module", MODULES)
def test_on_a_terminal_there_is_a_bar(work, module):
    with on_a_terminal() as shown:
        work(module)()
    assert "%" in shown[0]


def test_no_module_with_a_bar_is_left_out():
    sources = Path(puzzlemix.__file__).parent.rglob("*.py")
    assert sorted(source.stem for source in sources if "from tqdm import" in source.read_text()) == sorted(MODULES)
