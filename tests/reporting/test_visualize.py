"""Puzzles of a checkpoint's network, as pictures."""

import re

import numpy as np
import pytest
from made_runs import run_of
from matplotlib.image import imread
from PIL import Image
from sklearn.datasets import load_sample_images


@pytest.fixture
def draw(runs, script):
    """`draw("pairs=1")`: the script on a checkpoint of the method that trained it."""

    def run(*arguments, method="puzzlemix"):
        script("visualize", f"checkpoint={run_of(runs, method)}/checkpoints/last.pt", "device=cpu", *arguments)

    return run


@pytest.fixture
def photographs(tmp_path):
    """Two image files of other sizes than the network's, one of them grey."""
    paths = [tmp_path / "first.jpg", tmp_path / "second.png"]
    for path, mode, pixels in zip(paths, ("RGB", "L"), load_sample_images().images, strict=True):
        Image.fromarray(pixels).convert(mode).save(path)
    return f"images=[{paths[0]},{paths[1]}]"


@pytest.mark.parametrize("method", ["puzzlemix", "vanilla"])
def test_a_row_a_pair(draw, tmp_path, method):
    pictures = {}
    for pairs in (1, 2, 3):
        draw(f"pairs={pairs}", f"output={tmp_path}/{pairs}.png", method=method)
        pictures[pairs] = imread(tmp_path / f"{pairs}.png")
    heights = [pictures[pairs].shape[0] for pairs in (1, 2, 3)]
    assert heights[2] - heights[1] == pytest.approx(heights[1] - heights[0], abs=2)
    assert len({picture.shape[1] for picture in pictures.values()}) == 1
    assert np.ptp(pictures[1][..., :3]) > 0.9  # from black to white


def test_two_image_files_are_one_pair(draw, photographs, tmp_path, capsys):
    draw(photographs, f"output={tmp_path}/pair.png")
    assert "labels are those that the network gives" in capsys.readouterr().out
    picture = imread(tmp_path / "pair.png")[..., :3]
    height, width, _ = picture.shape
    assert width > 4 * height
    colour = [np.ptp(picture[:, i * width // 8 : (i + 1) * width // 8], axis=2).max() for i in (0, 1)]
    assert colour[0] > 0.2
    assert colour[1] < 0.01  # grey


def test_several_grids_are_a_row_each_of_one_pair(draw, photographs, tmp_path):
    masks = []
    for blocks in ("2", "8", "[2,8]"):
        draw(photographs, f"blocks={blocks}", f"output={tmp_path}/pair.png")
        picture = imread(tmp_path / "pair.png")[..., 0]
        width = picture.shape[1]
        masks.append(picture[:, width // 2 : 5 * width // 8])
    coarse, fine, both = masks
    assert len(coarse) == len(fine) < len(both) / 1.7
    means = {"coarse": coarse[60:150].mean(), "fine": fine[60:150].mean()}  # inside the mask
    below = len(both) - len(fine)  # where the second row has what the first had
    assert abs(means["coarse"] - means["fine"]) > 0.02
    assert both[60:150].mean() == pytest.approx(means["coarse"], abs=0.005)
    assert both[60 + below : 150 + below].mean() == pytest.approx(means["fine"], abs=0.005)


def test_another_dataset_than_its_own(draw, tmp_path):
    draw("dataset=digits", f"output={tmp_path}/other.png")
    assert imread(tmp_path / "other.png").shape[0] > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["images=[one.jpg]"], r"images must be two files: images=\[first\.jpg,second\.jpg\]"),
        (["images=[one.jpg,two.jpg]"], r"one\.jpg is not there: give images=\[first\.jpg,second\.jpg\]"),
        (["dataset=cifar10"], r"cifar10/train\.npz does not exist"),
        (["dataset=cifar1"], "unknown dataset 'cifar1'; did you mean 'cifar10"),
        (["blocks=64"], "images of 32 x 32 pixels are smaller than a grid of 64 x 64 blocks"),
        (["blocks=[2,x]"], r"blocks must be a whole number or several, such as \[4,16\], not \[2, 'x'\]"),
        (["blocks=[]"], r"blocks must be a whole number or several"),
        (["images=5"], "images must be two files"),
        (["images=[one.jpg,two.jpg]", "dataset=digits"], "images= and dataset= are two sources: give one of them"),
        (["output=v.jpg"], r"unknown ending of output '\.jpg'; did you mean '\.png'"),
        (["lam=2"], r"lam must be a number, in \[0, 1\], not 2"),
    ],
)
def test_bad_input_is_one_line(draw, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        draw(*arguments)
    assert re.search(message, stop.value.code)
    assert len(stop.value.code.splitlines()) == 1
