"""Two real processes over gloo: equal draws, one gradient, one run, which survives what happens to one of them."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest
import torch
from conftest import OF_TWO_PROCESSES, SCRIPTS, TORCHRUN, log_of
from two_processes import METHODS, STOPPED_AT, WRAPPERS

from benchmarks.soak import differences
from puzzlemix.cli.script import ASKED_TO_STOP
from puzzlemix.runtime.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def ranks(two_processes):
    return [torch.load(two_processes / f"rank{rank}.pt") for rank in range(2)]


def errors_of(two_processes, start, rank):
    """The lines on errors that a process has written."""
    (log,) = two_processes.glob(f"logs/*/attempt_{start}/{rank}/stderr.log")
    return [line for line in log.read_text().splitlines() if line.startswith("error:")]


@pytest.mark.parametrize("method", [m for m in METHODS if m != "vanilla"])
def test_both_processes_draw_the_same_lambda_blocks_and_coins_but_other_partners(ranks, method):
    ours, theirs = (rank["draws"][method] for rank in ranks)
    own = ("partner", "start_noise")
    for a, b in zip(ours, theirs, strict=True):
        assert {k: v for k, v in a.items() if k not in own} == {k: v for k, v in b.items() if k not in own}
    assert len({drawn["lam"] for drawn in ours}) == len(ours)
    assert not all(torch.equal(a["partner"], b["partner"]) for a, b in zip(ours, theirs, strict=True))
    if method == "puzzle_adversarial":
        noisy = [(a["start_noise"], b["start_noise"]) for a, b in zip(ours, theirs, strict=True) if any(a["noisy"])]
        assert noisy
        assert not any(torch.equal(a, b) for a, b in noisy)
        assert {drawn["noisy"] for drawn in ours} == {(False, False), (False, True), (True, False), (True, True)}


@pytest.mark.parametrize("method", METHODS)
def test_the_averaged_gradient_is_one_processs_on_the_joined_batch(ranks, method):
    for rank in ranks:
        for name, gradient in rank["alone"][method].items():
            assert gradient.abs().max() > 0
            torch.testing.assert_close(rank["together"][method][name], gradient, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_the_clean_loss_is_in_the_second_step_of_any_wrapper(ranks, wrapper):
    for rank in ranks:
        for name, gradient in rank["alone"]["puzzle_clean"].items():
            torch.testing.assert_close(rank["wrapped"][wrapper][name], gradient, atol=1e-7, rtol=1e-4)


def test_counts_are_of_all_processes(ranks):
    assert [rank["counts"] for rank in ranks] == [{"seen": 3}, {"seen": 3}]


def test_both_processes_evaluate_all_images_or_stop_after_the_same_batch(ranks):
    """Three images are the first process's, in two batches, and two the second's, in one."""
    whole, stopped = zip(*(rank["evaluations"] for rank in ranks), strict=True)
    assert whole == (([10], [[0, 2], [4]]), ([10], [[1, 3]]))
    assert stopped == (("stopped", [[0, 2]]), ("stopped", [[1, 3]]))


def test_the_clean_regulariser_adds_to_the_gradient(ranks):
    plain, clean = (ranks[0]["together"][m]["linear.weight"] for m in ("puzzle", "puzzle_clean"))
    assert (plain - clean).abs().max() > 1e-4


def test_two_processes_train_one_run_and_evaluate_every_image_once(one_node, ranks, script, tmp_path):
    assert [path.name for path in one_node.parent.iterdir()] == ["seed0"]
    metrics = json.loads((one_node / "metrics.json").read_text())
    assert metrics["machine"]["processes"] == 2
    assert metrics["epochs"] == len(log_of(one_node)) == 3
    assert log_of(one_node)[0]["images"] == 200

    checkpoint = one_node / "checkpoints" / "last.pt"
    script("evaluate", f"checkpoint={checkpoint}", f"output={tmp_path}/alone.json", "attack=fgsm", "device=cpu")
    alone = json.loads((tmp_path / "alone.json").read_text())
    assert alone["top1_error"] == pytest.approx(metrics["top1_error"]["last"])
    assert alone["top5_error"] == pytest.approx(metrics["top5_error"]["last"])
    assert alone["fgsm8_error"] == pytest.approx(metrics["fgsm8_error"], abs=0.41)  # two of 500 images
    assert load_checkpoint(checkpoint)["epoch"] == 3


def test_two_processes_show_one_bar_and_one_result(ranks):
    first, second = ranks
    at = [float(percent) for percent in re.findall(r"one_node seed 0[^\r\n]*: ([\d.]+) % \|", first["shown"])]
    assert at == sorted(at)
    assert at.count(0) == 1  # a bar begins there, and goes on from step to step
    assert at[-1] == 100
    (status, told), (other_status, other) = first["one_node"], second["one_node"]
    assert (status, other_status, second["shown"], other) == (0, 0, "", "")
    assert told.count("top1_error") == len(told.splitlines()) == 1


def test_one_process_asked_to_stop_stops_both_and_they_go_on_to_the_same_numbers(two_processes, ranks, one_node):
    (status, told), (other_status, other) = (rank["stopped"] for rank in ranks)
    assert (status, other_status, other) == (ASKED_TO_STOP, ASKED_TO_STOP, "")
    assert re.fullmatch(rf"asked to stop: .* epoch 0 after {STOPPED_AT} steps, .*\n", told)
    content = load_checkpoint(two_processes / "stopped_early" / "seed0" / "checkpoints" / "last.pt")
    assert (content["epoch"], content["steps_done"], len(content["processes"])) == (0, STOPPED_AT, 2)
    assert [rank["went_on"][0] for rank in ranks] == [0, 0]
    assert differences(two_processes / "stopped" / "seed0", one_node) == []


def test_a_run_goes_on_with_another_number_of_processes(two_processes, script, tmp_path):
    folder = shutil.copytree(two_processes / "stopped_early" / "seed0", tmp_path / "stopped" / "seed0")
    script("train", *OF_TWO_PROCESSES, f"results_dir={tmp_path}", "name=stopped")
    assert [record["epoch"] for record in log_of(folder)] == [0, 1, 2]
    assert all(record["images"] == 200 for record in log_of(folder))


def test_where_one_process_is_killed_the_other_says_so_and_both_go_on_to_the_same_numbers(two_processes, one_node):
    """By SIGKILL, and torchrun starts both again."""
    (told,) = errors_of(two_processes, start=0, rank=0)
    assert told.startswith("error: process 0: another process of this run has ended")
    assert errors_of(two_processes, start=0, rank=1) == []
    assert differences(two_processes / "killed" / "seed0", one_node) == []


def test_what_one_process_alone_meets_is_told(two_processes):
    """A damaged image that is the second process's to read; the first one loses it."""
    damaged = (two_processes / "damaged_image").read_text()
    (told,) = errors_of(two_processes, start=1, rank=1)
    assert told == f"error: {damaged} cannot be read as an image (OSError): replace it, or delete it"
    assert [line[:17] for line in errors_of(two_processes, start=1, rank=0)] in ([], ["error: process 0:"])


def test_a_batch_that_is_no_equal_share_is_told_once(two_processes, ranks):
    told = "a batch of 21 does not give each of 2 processes an equal share of 2 or more"
    remedy = "change recipe.batch_size or --nproc-per-node"
    assert [rank["odd_batch"] for rank in ranks] == [(f"error: {told}: {remedy}", ""), (1, "")]
    assert not (two_processes / "odd_batch").exists()


@pytest.mark.slow
def test_where_the_first_process_is_killed_the_other_says_so_and_ends(tmp_path):
    """The first one is who writes the checkpoints, and it is killed from outside."""
    folder = tmp_path / "run" / "seed0"
    options = (*OF_TWO_PROCESSES, "recipe.epochs=1000")  # so many that the run cannot end before the kill
    command = [*TORCHRUN, SCRIPTS / "train.py", *options, f"results_dir={tmp_path}", "name=run"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (folder / "checkpoints" / "last.pt").is_file():
        time.sleep(0.01)
    holder = int(re.match(r"process (\d+) on", (folder / ".lock").read_text())[1])  # which is the first one
    os.kill(holder, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    (told,) = [line for line in errors.splitlines() if line.startswith("error:")]
    assert told.startswith("error: process 1: another process of this run has ended")
    assert load_checkpoint(folder / "checkpoints" / "last.pt")["epoch"] >= 1
