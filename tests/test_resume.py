"""A run that is killed, asked to stop, or finds its files damaged, ends with the numbers of one that never was."""

import json
import multiprocessing
import os
import pkgutil
import re
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest
import torch
from conftest import SCRIPTS, TINY, at_step, full_disk, held_by_another_process, log_of, tiny_run
from pictures import write_class_folders
from torch import nn

from benchmarks.soak import descendants, differences
from puzzlemix.cli.script import ASKED_TO_STOP
from puzzlemix.data.image_files import LAST_READS_S
from puzzlemix.evaluation.attacks import attack
from puzzlemix.runtime import preemption
from puzzlemix.runtime.checkpoint import load_checkpoint

METHODS = {
    "input": ("mixup=input",),
    "manifold": ("mixup=manifold",),
    "adversarial": ("mixup=puzzlemix_adversarial", "mixup.adv_p=0.5", "mixup.clean_lam=1.0"),  # the most to restore
}
STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM)
STOPPED = "asked to stop: the same command goes on from what was finished\n"
LONGER = ("dataset.train_per_class=20", "recipe.epochs=2")  # of ten steps


class KilledError(BaseException):
    """What ends a run at once, as a kill does."""


def kill():
    raise KilledError


def start(command):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(happened, process):
    while process.poll() is None and not happened():
        time.sleep(0.005)
    assert process.poll() is None, process.communicate()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """`whole("mixup=input")`: the folder of a tiny run that nothing happened to, made once."""

    @cache
    def run(*overrides):
        return tiny_run(tmp_path_factory.mktemp("whole"), *overrides)

    return run


@pytest.fixture
def stopped(train, tmp_path):
    """`stopped(4, "mixup=input")`: the folder of a tiny run that was asked to stop in that step; `train` goes on."""

    def run(step, *overrides, number=signal.SIGTERM):
        with pytest.MonkeyPatch.context() as patch:
            at_step(patch, step, lambda: os.kill(os.getpid(), number))
            with pytest.raises(SystemExit) as end:
                train(*overrides)
        assert end.value.code == ASKED_TO_STOP
        return tmp_path / "run" / "seed0"

    return run


KILLED = """
import os, signal, sys
import pytest
from conftest import at_step, run_script

patch = pytest.MonkeyPatch()
at_step(patch, 13, lambda: os.kill(os.getpid(), signal.SIGKILL))
run_script(patch, "train", *sys.argv[1:])
"""


def test_a_killed_run_goes_on_to_the_same_numbers(train, whole, tmp_path):
    """By SIGKILL, in its second epoch."""
    overrides = (*METHODS["adversarial"], *LONGER)
    command = [sys.executable, "-c", KILLED, *TINY, f"results_dir={tmp_path}", "name=run", *overrides]
    killed = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    assert load_checkpoint(tmp_path / "run" / "seed0" / "checkpoints" / "last.pt")["epoch"] == 1
    assert differences(train(*overrides), whole(*overrides)) == []


@pytest.mark.parametrize("step", [1, 10, 15])
def test_a_run_that_ends_in_any_step_goes_on_to_the_same_numbers(train, whole, monkeypatch, step):
    with monkeypatch.context() as patch:
        at_step(patch, step, kill)
        with pytest.raises(KilledError):
            train(*LONGER)
    assert differences(train(*LONGER), whole(*LONGER)) == []


@pytest.mark.parametrize(("name", "left"), [("previous.pt", ["last.pt"]), ("last.pt", ["previous.pt"])])
def test_a_run_that_ends_in_a_write_goes_on_to_the_same_numbers(train, whole, tmp_path, monkeypatch, name, left):
    """While the second checkpoint takes its place: before the first one is moved, or after."""
    folder, replace = tmp_path / "run" / "seed0" / "checkpoints", os.replace

    def replace_until(source, target):
        if target == folder / name and (folder / "last.pt.unfinished").is_file() and log_of(folder.parent)[1:]:
            raise KilledError
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_until)
        with pytest.raises(KilledError):
            train(*LONGER)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*left, "last.pt.unfinished"])
    assert differences(train(*LONGER), whole(*LONGER)) == []


@pytest.mark.parametrize(("method", "number"), [*zip(METHODS, STOPPING, strict=True)])
def test_a_run_asked_to_stop_saves_after_the_step_and_goes_on_from_it(train, stopped, whole, capsys, method, number):
    overrides = (*METHODS[method], *LONGER)
    folder = stopped(4, *overrides, number=number)
    path = folder / "checkpoints" / "last.pt"
    content = load_checkpoint(path)
    assert (content["epoch"], content["steps_done"]) == (0, 4)
    told = f"asked to stop: {path} is of epoch 0 after 4 steps, and the same command goes on from it\n"
    assert capsys.readouterr() == (told, "")
    assert differences(train(*overrides), whole(*overrides)) == []


def test_a_signal_during_the_imports_is_answered(tmp_path):
    """In all scripts that work for long."""
    scripts = {"train": f"results_dir={tmp_path}", "evaluate": "checkpoint=any", "prepare_data": "dataset=digits"}
    processes = [start([sys.executable, str(SCRIPTS / f"{name}.py"), given]) for name, given in scripts.items()]
    importing = [*processes]
    while importing:
        assert all(process.poll() is None for process in importing)
        for process in [p for p in importing if "libtorch" in Path(f"/proc/{p.pid}/maps").read_text()]:
            process.send_signal(signal.SIGTERM)
            importing.remove(process)
        time.sleep(0.005)
    ends = [(*process.communicate(), process.returncode) for process in processes]
    assert ends == [(STOPPED, "", ASKED_TO_STOP)] * len(scripts)
    assert not any(tmp_path.iterdir())


ATTACKED = (*(override for override in TINY if not override.startswith("attack=")), "test_batch_size=50")


def test_a_run_asked_to_stop_during_the_attacks_keeps_those_that_are_finished(tmp_path, script, monkeypatch, capsys):
    overrides = (*ATTACKED, "attack=[fgsm,pgd7_eps4]", "attack.pgd7_eps4.steps=2")
    run, kept = tmp_path / "stopped" / "run" / "seed0", tmp_path / "stopped" / "run" / "seed0" / "attacks.json"
    steps = []

    def recorded(*given, **options):
        steps.append(options["steps"])
        if steps.count(2) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return attack(*given, **options)

    monkeypatch.setattr("puzzlemix.evaluation.evaluator.attack", recorded)
    with pytest.raises(SystemExit) as end:
        script("train", *overrides, f"results_dir={tmp_path}/stopped", "name=run")
    assert (end.value.code, *capsys.readouterr()) == (ASKED_TO_STOP, STOPPED, "")
    assert [name.split()[0] for name in json.loads(kept.read_text())["totals"]] == ["fgsm8"]

    steps[:] = [2]
    script("train", *overrides, f"results_dir={tmp_path}/stopped", "name=run")
    assert set(steps) == {2}  # PGD's
    assert not kept.exists()
    script("train", *overrides, f"results_dir={tmp_path}/whole", "name=run")
    assert differences(run, tmp_path / "whole" / "run" / "seed0") == []


@pytest.fixture
def handed_on():
    """The signals that reach the handlers from before the script, as submitit has them."""
    numbers = []
    before = {number: signal.signal(number, lambda number, _: numbers.append(number)) for number in preemption.SIGNALS}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def signal_before(monkeypatch):
    """`signal_before("module.function", number)`: send this process a signal whenever the function is called."""

    def patch(name, number):
        function = pkgutil.resolve_name(name)

        def signalled(*given, **options):
            os.kill(os.getpid(), number)
            return function(*given, **options)

        monkeypatch.setattr(name, signalled)

    return patch


@pytest.mark.parametrize("number", preemption.SIGNALS)
def test_a_signal_while_data_are_loaded_ends_the_run_at_once(train, tmp_path, capsys, signal_before, handed_on, number):
    signal_before("puzzlemix.data.arrays.ArrayData.load", number)
    with pytest.raises(SystemExit) as end:
        train()
    assert (end.value.code, *capsys.readouterr(), handed_on) == (ASKED_TO_STOP, STOPPED, "", [number])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("where", "number", "told"),
    [
        ("training.loop.clean_errors", signal.SIGUSR1, r"asked to stop: .*last\.pt is of epoch 0 after 2 steps, .*\n"),
        ("evaluation.evaluator.attack", signal.SIGUSR2, STOPPED),
    ],
)
def test_a_signal_after_the_last_step_loses_nothing(
    script, tmp_path, monkeypatch, capsys, signal_before, handed_on, where, number, told
):
    def run(name):
        script("train", *ATTACKED, "attack=fgsm", f"results_dir={tmp_path}", f"name={name}")
        return tmp_path / name / "seed0"

    signal_before(f"puzzlemix.{where}", number)
    with pytest.raises(SystemExit) as end:
        run("stopped")
    assert (end.value.code, handed_on) == (ASKED_TO_STOP, [number])
    assert re.fullmatch(told, capsys.readouterr().out)
    monkeypatch.undo()
    assert differences(run("stopped"), run("whole")) == []


def test_a_run_whose_results_are_being_written_ends_well(train, signal_before, handed_on):
    """It would not come back for its page at wandb."""
    signal_before("puzzlemix.training.log.RunLog.finish", signal.SIGTERM)
    assert (train() / "metrics.json").is_file()
    assert handed_on == []


def test_readers_of_images_do_not_answer_signals():
    with preemption.answered():
        reader = multiprocessing.get_context("fork").Process(target=lambda: os.kill(os.getpid(), signal.SIGUSR1))
        reader.start()
        reader.join()
    assert reader.exitcode == 0


def test_a_run_goes_on_with_its_memory_laid_out_otherwise(train, stopped, whole):
    """Its optimiser's too, else a fused update would give weights the momentum of others."""
    channels = "network.initial_channels=16"  # as many as channels_last needs on a CPU
    overrides = (channels, "recipe.lr=0.02", *LONGER)
    stopped(4, *overrides)
    folders = train(*overrides, "channels_last=false"), whole(*overrides)
    losses, wanted = ([record["train_loss"] for record in log_of(folder)] for folder in folders)
    assert losses == pytest.approx(wanted, rel=5e-3)


@pytest.fixture
def run_of_files(tmp_path):
    """The arguments of a run whose images two processes read from files, and its folder."""
    for split in ("train", "val"):
        write_class_folders(tmp_path / "data" / "imagenet" / split, ["ant", "bee"], 200, (40, 40))
    counts = ("num_classes=2", "train_images=null", "test_images=null", "image_size=[32,32]", "test_resize=32")
    data = ("dataset=imagenet", *(f"dataset.{count}" for count in counts), f"dataset.root={tmp_path}/data")
    own = ("dataset.workers=2", "recipe.batch_size=4")
    tiny = ("network.initial_channels=4", "attack=none", "device=cpu")
    return (*data, *own, *tiny, f"results_dir={tmp_path}", "name=run"), tmp_path / "run" / "seed0"


def test_a_signal_to_all_processes_leaves_the_readers_of_images_at_work(run_of_files):
    """As `scancel` sends it. To the readers first: a step may end, and the run with it, before their end is noticed."""
    arguments, folder = run_of_files
    process = start([sys.executable, str(SCRIPTS / "train.py"), *arguments, "recipe.epochs=1000"])
    wait_for((folder / "checkpoints" / "last.pt").is_file, process)
    wait_for(lambda: len(descendants(process.pid)) == 2, process)  # an epoch begins
    epochs = len(log_of(folder))
    time.sleep(0.1)
    for reader in descendants(process.pid):
        os.kill(reader, signal.SIGTERM)
    wait_for(lambda: len(log_of(folder)) > epochs + 1, process)
    process.send_signal(signal.SIGTERM)
    told, errors = process.communicate(timeout=60)
    warned, *others = errors.splitlines()  # of digits' recipe, which is quick
    assert (process.returncode, others) == (ASKED_TO_STOP, [])
    assert warned.startswith("warning: imagenet with network=preactresnet18_narrow and recipe=digits")
    assert told.startswith("asked to stop: ")


class Breaks(nn.Module):
    """A network that fails at its third batch."""

    def __init__(self, **_):
        super().__init__()
        self.linear, self.batches = nn.Linear(3, 2), 0

    def forward(self, pixels):
        self.batches += 1
        if self.batches == 3:
            raise RuntimeError("broken")
        return self.linear(pixels.mean((2, 3)))


def test_a_run_that_fails_does_not_wait_for_its_readers_of_images(run_of_files, script):
    arguments, _ = run_of_files
    start_s = time.monotonic()
    with pytest.raises(RuntimeError, match=r"^broken$"):
        script("train", *arguments, "network._target_=test_resume.Breaks")
    assert time.monotonic() - start_s < LAST_READS_S / 2
    assert multiprocessing.active_children() == []


def test_a_checkpoint_holds_all_that_a_run_is(stopped):
    """The order of images, augmentation and draws follow from the seed, the epoch and the step."""
    content = load_checkpoint(stopped(4, *LONGER) / "checkpoints" / "last.pt")
    assert content["config"]["seed"] == 0
    assert len(content["config_hash"]) == 64
    assert (content["epoch"], content["steps_done"], content["log"]) == (0, 4, [])
    assert content["optimizer"]["state"][0]["momentum_buffer"].shape == (4, 3, 3, 3)
    (process,) = content["processes"]
    assert {"python", "numpy", "torch"} <= set(process["streams"])
    assert process["sums"][2] == 4 * 20


def test_what_users_draw_from_the_global_streams_goes_on_too(train, stopped, whole):
    """A network with noise of Python's, NumPy's and PyTorch's generators."""
    overrides = ("network._target_=odd_networks.NoisyNetwork", *LONGER)
    stopped(4, *overrides)
    assert differences(train(*overrides), whole(*overrides)) == []


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(train, copied, finished, capsys):
    (copied / "metrics.json").unlink()
    last = copied / "checkpoints" / "last.pt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 4
    last.write_bytes(content)
    train()
    previous = last.with_name("previous.pt")
    warning = f"warning: {last} is damaged: going on from {previous}; it is now last.damaged\n"
    assert capsys.readouterr().err == warning
    assert last.with_suffix(".damaged").read_bytes() == content
    assert load_checkpoint(previous)["epoch"] == 1
    assert differences(copied, finished) == []


def test_a_run_whose_checkpoints_are_all_damaged_is_refused_and_untouched(train, copied):
    folder = copied
    (folder / "metrics.json").unlink()
    for name in ("last.pt", "previous.pt"):
        path = folder / "checkpoints" / name
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SystemExit, match=r"last\.pt is damaged or not a checkpoint \(BadZipFile\): restore it"):
        train()
    assert all(len(path.read_bytes()) == 1000 for path in (folder / "checkpoints").iterdir())


def test_a_checkpoint_with_a_wrong_part_ends_in_a_line(train, copied):
    path = copied / "checkpoints" / "last.pt"
    (path.parents[1] / "metrics.json").unlink()
    content = load_checkpoint(path)
    for part in ({"optimizer": None}, {"processes": []}, {"network": 5}):
        torch.save(content | part, path)
        with pytest.raises(SystemExit, match=r"^error: .*last\.pt does not work here \(.*\): give another checkpoint"):
            train()


def test_a_lost_log_is_written_again_from_the_checkpoint(train, copied):
    folder = copied
    log = (folder / "log.jsonl").read_bytes()
    for rest in (b"", log + log[:-20]):
        (folder / "metrics.json").unlink()
        (folder / "log.jsonl").write_bytes(rest)
        train()
        assert (folder / "log.jsonl").read_bytes() == log


def test_a_full_disk_stops_the_run_with_the_old_checkpoint_intact(train, stopped, whole):
    folder = stopped(4, *LONGER)
    path = folder / "checkpoints" / "last.pt"
    before = path.read_bytes()
    with full_disk(len(before) // 2), pytest.raises(SystemExit) as end:
        train(*LONGER)
    kept = "the old file is unchanged: free some space, start again"
    assert end.value.code == f"error: {path} cannot be written (File too large); {kept}"
    assert [p.name for p in path.parent.iterdir()] == ["last.pt"]
    assert path.read_bytes() == before
    assert differences(train(*LONGER), whole(*LONGER)) == []


def test_a_disk_that_is_full_at_the_start_is_told_in_one_line(train, tmp_path):
    with full_disk(1024), pytest.raises(SystemExit) as end:
        train()
    path = tmp_path / "run" / "seed0" / "config.yaml"
    assert end.value.code == f"error: {path} cannot be written (File too large): free some space, start again"


def test_a_folder_whose_lock_cannot_be_written_is_told_in_one_line(train, tmp_path):
    lock = tmp_path / "run" / "seed0" / ".lock"
    lock.mkdir(parents=True)  # what a folder of somebody else's comes to, also for root
    with pytest.raises(SystemExit, match=r"^error: .*\.lock cannot be written \(Is a directory\): .*$"):
        train()


def test_a_second_run_in_the_same_folder_is_refused(train, copied):
    (copied / "metrics.json").unlink()
    (copied / "checkpoints" / "previous.pt").write_bytes(b"damaged")  # which is not for the second to see to
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file() and path.name != ".lock"}
    with held_by_another_process(copied) as first:
        with pytest.raises(SystemExit, match=rf"^error: {copied} is being trained by process {first.pid} on [^\n]*$"):
            train()
        assert {path: path.read_bytes() for path in before} == before
    train()  # its end, by a kill, lets go of the folder
    assert (copied / ".lock").read_text().startswith(f"process {os.getpid()} on ")
    assert (copied / "metrics.json").is_file()


class InfiniteGradient(nn.Module):
    """Scores with a finite loss and a gradient that is not."""

    def __init__(self, **_):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 10))

    def forward(self, pixels):
        return pixels.mean((1, 2, 3))[:, None] * self.weight.sqrt()


def test_a_gradient_that_is_not_finite_stops_the_run(train, tmp_path):
    with pytest.raises(
        SystemExit, match=r"the loss or a gradient is not finite in step 1 of epoch 0, learning rate 0\.1;"
    ):
        train("network._target_=test_resume.InfiniteGradient")
