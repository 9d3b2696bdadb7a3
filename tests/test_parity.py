"""One process with a whole batch, and two with a half each, take the same twenty steps: `parity.py`."""

import json

import pytest
from parity import METHODS, WITHOUT_BATCH_NORM, DrawsOfTwo, train


@pytest.fixture(scope="module")
def of_two(two_processes):
    """By method: the twenty losses, and the log."""
    return json.loads((two_processes / "parity" / "losses.json").read_text())


@pytest.mark.parametrize("method", METHODS)
def test_one_process_takes_the_steps_of_two(of_two, tmp_path, method):
    losses, log = train(tmp_path, (*WITHOUT_BATCH_NORM, *METHODS[method]), DrawsOfTwo())
    losses_of_two, log_of_two = of_two[method]
    assert len(losses) == 20
    assert losses_of_two == pytest.approx(losses, rel=0, abs=1e-5)
    for ours, theirs in zip(log, log_of_two, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=0, abs=1e-5)
        assert (ours["images"], ours["lr"]) == (theirs["images"], theirs["lr"]) == (220, 0.2)
        assert ours["top1_error"] == pytest.approx(theirs["top1_error"], abs=0.21)  # one of 500 images


def test_partners_are_all_that_processes_draw_apart(of_two, tmp_path):
    """Without those of two, one process takes other steps: the tolerance above would notice."""
    losses, _ = train(tmp_path, (*WITHOUT_BATCH_NORM, *METHODS["input"]))
    assert max(abs(a - b) for a, b in zip(losses, of_two["input"][0], strict=True)) > 1e-4


def test_batch_norm_makes_a_difference_and_not_a_large_one(of_two, tmp_path):
    """Each process normalises with its own 12 images, one alone with all 24."""
    losses, _ = train(tmp_path, ())
    differences = [abs(b / a - 1) for a, b in zip(losses, of_two["batch_norm"][0], strict=True)]
    assert 1e-4 < differences[0] < 0.01
    assert max(differences[:9]) < 0.1  # the tenth batch has four images
