"""Two real processes over gloo: equal draws, one gradient, one run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import SCRIPTS, TINY
from pictures import write_class_folders
from two_processes import METHODS

from puzzlemix.runtime.seeding import numpy_stream
from puzzlemix.training.checkpoint import load_checkpoint


def torchrun(*command):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run([*launcher, *map(str, command)], capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    done = torchrun(Path(__file__).with_name("two_processes.py"), folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


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


def test_two_processes_train_one_run_and_evaluate_every_image_once(tmp_path, script):
    options = (f"results_dir={tmp_path}", "name=two", "mixup=puzzlemix")
    done = torchrun(SCRIPTS / "train.py", *TINY, *options, "attack=fgsm")
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "two" / "seed0"
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["seed0"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["machine"]["processes"] == 2
    assert metrics["epochs"] == len((folder / "log.jsonl").read_text().splitlines()) == 2
    assert json.loads((folder / "log.jsonl").read_text().splitlines()[0])["images"] == 40

    checkpoint = folder / "checkpoints" / "last.pt"
    script("evaluate", f"checkpoint={checkpoint}", "attack=fgsm", "device=cpu")
    alone = json.loads((folder / "robustness.json").read_text())
    assert alone["top1_error"] == pytest.approx(metrics["top1_error"]["last"])
    assert alone["top5_error"] == pytest.approx(metrics["top5_error"]["last"])
    assert alone["fgsm8_error"] == pytest.approx(metrics["fgsm8_error"], abs=0.41)  # two of 500 images
    assert load_checkpoint(checkpoint)["epoch"] == 2


def test_what_one_process_alone_meets_is_told(tmp_path):
    """A damaged image that is the second process's to read."""
    for split in ("train", "val"):
        write_class_folders(tmp_path / "imagenet" / split, ["ant", "bee"], 4, (40, 40))
    second = numpy_stream("order", 0, 0).permutation(8)[1]
    damaged = sorted((tmp_path / "imagenet" / "train").glob("*/*.JPEG"))[second]
    damaged.write_bytes(damaged.read_bytes()[:400])
    counts = ("num_classes=2", "train_images=null", "test_images=null", "image_size=[32,32]", "test_resize=32")
    data = ["dataset=imagenet", *(f"dataset.{count}" for count in counts), f"dataset.root={tmp_path}"]
    options = ("network.initial_channels=4", "recipe.batch_size=8", "attack=none", "device=cpu", "dataset.workers=0")
    done = torchrun(SCRIPTS / "train.py", *data, *options, f"results_dir={tmp_path}/runs")
    assert done.returncode != 0
    told = sorted(line for line in done.stderr.splitlines() if line.startswith("error:"))
    assert told[0] == f"error: {damaged} cannot be read as an image (OSError): replace it, or delete it"
    assert [line[:17] for line in told[1:]] in ([], ["error: process 0:"])  # that it has lost the other


def test_bad_input_is_told_once(tmp_path):
    done = torchrun(SCRIPTS / "train.py", *TINY, f"results_dir={tmp_path}", "recipe.batch_size=21")
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert told == [
        "error: a batch of 21 does not give each of 2 processes an equal share of 2 or more: "
        "change recipe.batch_size or --nproc-per-node"
    ]
    assert not any(tmp_path.iterdir())
