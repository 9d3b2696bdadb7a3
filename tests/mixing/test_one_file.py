"""Puzzle Mix in one file, compared with the package: both compute the same."""

import importlib.util
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import SCRIPTS
from PIL import Image
from test_puzzle_golden import CASES

import puzzlemix
from puzzlemix.mixing.saliency import input_gradient, saliency_of
from puzzlemix.networks import preactresnet18

PATH = SCRIPTS.parent / "examples" / "puzzle_mix_in_one_file.py"
spec = importlib.util.spec_from_file_location("puzzle_mix_in_one_file", PATH)
one_file = importlib.util.module_from_spec(spec)
spec.loader.exec_module(one_file)


def a_batch(height, width, seed, count=4):
    """Smooth images, and saliency in few pixels, with none in image 1."""
    generator = torch.Generator().manual_seed(seed)
    images = F.avg_pool2d(torch.rand(count, 3, height, width, generator=generator), 3, 1, 1)
    saliency = torch.rand(count, height, width, generator=generator) ** 4
    saliency[1] = 0
    return images, saliency, torch.arange(count).roll(1), torch.rand((), generator=generator).item()


def both(images, saliency, partner, lam, n, m, t_size, transport):
    """Mixed images, share and mask from the one file and from the package."""
    options = {"lam": lam, "t_size": t_size, "transport": transport}
    fast = puzzlemix.puzzle_mix(images, saliency, partner, blocks=n, n_labels=m, **options)
    return one_file.puzzle_mix(images, saliency, partner, n=n, m=m, **options), (fast.images, fast.share, fast.mask)


@pytest.mark.parametrize(("t_size", "transport"), [(None, True), (2, True), (None, False)])
@pytest.mark.parametrize("size", [(16, 16), (32, 24), (19, 23)])
@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("n", [2, 4, 8])
def test_it_mixes_as_the_package_does(n, m, size, t_size, transport):
    plain, fast = both(*a_batch(*size, seed=n * m), n, m, t_size, transport)
    assert torch.equal(plain[2], fast[2])
    for ours, theirs in zip(plain, fast, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_it_mixes_as_the_package_does_in_16_blocks():
    images, saliency, _, lam = a_batch(32, 32, seed=0, count=2)
    plain, fast = both(images, saliency, torch.tensor([1, 0]), lam, 16, 3, None, True)
    assert torch.equal(plain[2], fast[2])
    torch.testing.assert_close(plain[0], fast[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_its_costs_and_weights_are_the_releases(golden, name):
    case = golden(name)
    meta, images, partner = case["meta"], case["images"], case["permutation"]
    share = one_file.shares(case["saliency"], meta.block_num, meta.block_num)
    terms = one_file.costs_and_weights(
        images, images[partner], share, share[partner], meta.beta, meta.gamma, meta.neigh_size
    )
    for ours, theirs in zip(terms, ("cost_second", "cost_first", "weight_x", "weight_y"), strict=True):
        torch.testing.assert_close(ours, case[theirs], atol=1e-6, rtol=0)


def test_its_saliency_is_the_packages():
    torch.manual_seed(0)
    network = preactresnet18(10, 4, mean=[0.5, 0.4, 0.3], std=[0.3, 0.2, 0.1]).eval()
    images, labels = torch.rand(4, 3, 16, 16), torch.arange(4)
    wanted = saliency_of(input_gradient(network, images, labels), network)
    torch.testing.assert_close(one_file.saliency(network, images, labels, [0.3, 0.2, 0.1]), wanted)


def test_it_is_short_needs_little_and_its_table_names_the_right_lines():
    text = PATH.read_text()
    lines = text.splitlines()
    assert len(lines) < 200
    above_the_script = text.partition("__main__")[0]
    assert set(re.findall(r"^(?:import|from) (\w+)", above_the_script, re.MULTILINE)) == {"math", "numpy", "torch"}
    rows = re.findall(r"^    (\d+) +\w.*?  +(\w+)", text, re.MULTILINE)
    assert len(rows) == 5
    for line, function in rows:
        assert lines[int(line) - 1].startswith(f"def {function}(")


def test_as_a_script_it_mixes_two_photographs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(PATH.read_text(), PATH, "exec"), {"__name__": "__main__"})
    assert "puzzle_mix.png" in capsys.readouterr().out
    with Image.open("puzzle_mix.png") as picture:
        assert np.array(picture).shape == (427, 640, 3)
