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
from pathlib import Path

import pytest
import torch
from conftest import SCRIPTS, TINY
from pictures import write_class_folders
from torch import nn

from benchmarks.soak import descendants, differences
from puzzlemix.cli.script import ASKED_TO_STOP
from puzzlemix.data.image_files import LAST_READS_S
from puzzlemix.evaluation.attacks import attack
from puzzlemix.runtime import preemption
from puzzlemix.training.checkpoint import load_checkpoint

METHODS = {
    "input": ("mixup=input",),
    "manifold": ("mixup=manifold",),
    "adversarial": ("mixup=puzzlemix_adversarial", "mixup.adv_p=0.5", "mixup.clean_lam=1.0"),
}
STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM)
STOPPED = "asked to stop: the same command goes on from what was finished\n"
STEPS = 10  # an epoch, of LONGER
LONGER = ("dataset.train_per_class=20", "recipe.epochs=3")


@pytest.fixture
def command(tmp_path):
    """`command("a", "mixup=input")`: the command of a tiny run called a, and its folder."""

    def build(name, *overrides):
        arguments = [str(SCRIPTS / "train.py"), *TINY, f"results_dir={tmp_path}", f"name={name}", *overrides]
        return [sys.executable, *arguments], tmp_path / name / "seed0"

    return build


def start(command, **options):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def wait_for(happened, process):
    while process.poll() is None and not happened():
        time.sleep(0.005)
    assert process.poll() is None, process.communicate()


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_killed_run_goes_on_to_the_same_numbers(command, train):
    overrides = (*METHODS["adversarial"], "recipe.epochs=8")  # with the most to restore
    killed, folder = command("killed", *overrides)
    process = start(killed)
    wait_for(lambda: (folder / "log.jsonl").is_file() and len(log_of(folder)) >= 2, process)
    process.kill()
    process.communicate()
    assert 1 <= load_checkpoint(folder / "checkpoints" / "last.pt")["epoch"] < 8
    subprocess.run(killed, check=True, capture_output=True)
    assert differences(folder, train(*overrides)) == []


@pytest.mark.parametrize(("method", "number"), [*zip(METHODS, STOPPING, strict=True)])
def test_a_run_asked_to_stop_saves_after_the_step_and_goes_on_from_it(command, train, method, number):
    overrides = (*METHODS[method], *LONGER)
    stopped, folder = command("stopped", *overrides)
    process = start(stopped)
    wait_for((folder / "log.jsonl").is_file, process)
    process.send_signal(number)
    told, errors = process.communicate()
    path = folder / "checkpoints" / "last.pt"
    assert (process.returncode, errors) == (ASKED_TO_STOP, "")
    content = load_checkpoint(path)
    assert content["epoch"] == 0
    assert 1 <= content["steps_done"] <= STEPS
    where = f"epoch 0 after {content['steps_done']} steps"
    assert told == f"asked to stop: {path} is of {where}, and the same command goes on from it\n"
    subprocess.run(stopped, check=True, capture_output=True)
    assert differences(folder, train(*overrides)) == []


def test_a_signal_during_the_imports_is_answered(tmp_path):
    """In all scripts that work for long."""
    scripts = {"train": f"results_dir={tmp_path}", "evaluate": "checkpoint=any", "prepare_data": "dataset=digits"}
    processes = [start([sys.executable, str(SCRIPTS / f"{name}.py"), given]) for name, given in scripts.items()]
    for process in processes:
        wait_for(lambda pid=process.pid: "libtorch" in Path(f"/proc/{pid}/maps").read_text(), process)
        process.send_signal(signal.SIGTERM)
    ends = [(*process.communicate(), process.returncode) for process in processes]
    assert ends == [(STOPPED, "", ASKED_TO_STOP)] * len(scripts)
    assert not any(tmp_path.iterdir())


ATTACKED = (*(override for override in TINY if not override.startswith("attack=")), "test_batch_size=50")


def test_a_run_asked_to_stop_during_the_attacks_keeps_those_that_are_finished(tmp_path, script, monkeypatch):
    overrides = (*ATTACKED, "attack=[fgsm,pgd]", "name=run")
    run, kept = tmp_path / "stopped" / "run" / "seed0", tmp_path / "stopped" / "run" / "seed0" / "attacks.json"
    process = start([sys.executable, str(SCRIPTS / "train.py"), *overrides, f"results_dir={tmp_path}/stopped"])
    wait_for(kept.is_file, process)
    process.send_signal(signal.SIGTERM)
    assert (*process.communicate(), process.returncode) == (STOPPED, "", ASKED_TO_STOP)
    assert [name.split()[0] for name in json.loads(kept.read_text())["totals"]] == ["fgsm8"]

    steps = []

    def recorded(*given, **options):
        steps.append(options["steps"])
        return attack(*given, **options)

    monkeypatch.setattr("puzzlemix.evaluation.evaluator.attack", recorded)
    script("train", *overrides, f"results_dir={tmp_path}/stopped")
    assert set(steps) == {20}  # PGD's
    assert not kept.exists()
    script("train", *overrides, f"results_dir={tmp_path}/whole")
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


def test_a_run_goes_on_with_its_memory_laid_out_otherwise(command, train):
    """Its optimiser's too, else a fused update would give weights the momentum of others."""
    channels = "network.initial_channels=16"  # as many as channels_last needs on a CPU
    overrides = (channels, "recipe.lr=0.02", *LONGER, "recipe.epochs=2")
    stopped, folder = command("stopped", *overrides)
    process = start(stopped)
    wait_for(lambda: (folder / "log.jsonl").is_file() and len(log_of(folder)) == 1, process)
    process.send_signal(signal.SIGTERM)
    assert process.communicate()[1] == ""
    subprocess.run([*stopped, "channels_last=false"], check=True, capture_output=True)
    losses, wanted = ([record["train_loss"] for record in log_of(f)] for f in (folder, train(*overrides)))
    assert losses == pytest.approx(wanted, rel=5e-3)


@pytest.fixture
def run_of_files(tmp_path):
    """The arguments of a run whose images two processes read from files, and its folder."""
    for split in ("train", "val"):
        write_class_folders(tmp_path / "data" / "imagenet" / split, ["ant", "bee"], 200, (40, 40))
    counts = ("num_classes=2", "train_images=null", "test_images=null", "image_size=[32,32]", "test_resize=32")
    data = ("dataset=imagenet", *(f"dataset.{count}" for count in counts), f"dataset.root={tmp_path}/data")
    own = ("dataset.workers=2", "recipe.batch_size=4", "recipe.epochs=50")
    arguments = [str(SCRIPTS / "train.py"), *data, *own, f"results_dir={tmp_path}", "name=run"]
    arguments += ["network.initial_channels=4", "attack=none", "device=cpu"]
    return [sys.executable, *arguments], tmp_path / "run" / "seed0"


def test_a_signal_to_all_processes_leaves_the_readers_of_images_at_work(run_of_files):
    """As `scancel` sends it. To the readers first: a step may end, and the run with it, before their end is noticed."""
    run, folder = run_of_files
    process = start(run)
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


def test_a_run_that_fails_does_not_wait_for_its_readers_of_images(run_of_files, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    run, _ = run_of_files
    process = start([*run, "network._target_=test_resume.Breaks"])
    _, errors = process.communicate(timeout=LAST_READS_S / 2)
    assert process.returncode == 1
    assert errors.endswith("RuntimeError: broken\n")


@pytest.fixture
def interrupted(command):
    """A run of three epochs that was asked to stop in its first one; its command and its folder."""
    stopped, folder = command("run", *LONGER)
    process = start(stopped)
    wait_for((folder / "log.jsonl").is_file, process)
    process.send_signal(signal.SIGTERM)
    assert process.communicate()[1] == ""
    return stopped, folder


def test_a_checkpoint_holds_all_that_a_run_is(interrupted):
    """The order of images, augmentation and draws follow from the seed, the epoch and the step."""
    _, folder = interrupted
    content = load_checkpoint(folder / "checkpoints" / "last.pt")
    assert content["config"]["seed"] == 0
    assert len(content["config_hash"]) == 64
    assert (content["epoch"], content["log"]) == (0, [])
    assert content["steps_done"] >= 1
    assert content["optimizer"]["state"][0]["momentum_buffer"].shape == (4, 3, 3, 3)
    (process,) = content["processes"]
    assert {"python", "numpy", "torch"} <= set(process["streams"])
    assert process["sums"][2] == 20 * content["steps_done"]


def test_what_users_draw_from_the_global_streams_goes_on_too(command, train, monkeypatch):
    """A network with noise of Python's, NumPy's and PyTorch's generators."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    overrides = ("network._target_=noisy_network.NoisyNetwork", *LONGER)
    stopped, folder = command("noisy", *overrides)
    process = start(stopped)
    wait_for((folder / "log.jsonl").is_file, process)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    subprocess.run(stopped, check=True, capture_output=True)
    assert differences(folder, train(*overrides)) == []


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(command, train):
    overrides = ("recipe.epochs=3",)
    again, folder = command("damaged", *overrides)
    subprocess.run(again, check=True, capture_output=True)
    (folder / "metrics.json").unlink()
    last = folder / "checkpoints" / "last.pt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 4
    last.write_bytes(content)
    done = subprocess.run(again, check=True, capture_output=True, text=True)
    previous = last.with_name("previous.pt")
    assert done.stderr == f"warning: {last} is damaged: going on from {previous}; it is now last.damaged\n"
    assert last.with_suffix(".damaged").read_bytes() == content
    assert load_checkpoint(previous)["epoch"] == 2
    assert differences(folder, train(*overrides)) == []


def test_a_run_whose_checkpoints_are_all_damaged_is_refused_and_untouched(train):
    folder = train()
    (folder / "metrics.json").unlink()
    for name in ("last.pt", "previous.pt"):
        path = folder / "checkpoints" / name
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(
        SystemExit, match=r"last\.pt is damaged or no checkpoint \(BadZipFile: .*\): restore it, or delete"
    ):
        train()
    assert all(len(path.read_bytes()) == 1000 for path in (folder / "checkpoints").iterdir())


def test_a_checkpoint_with_a_wrong_part_ends_in_a_line(train):
    path = train() / "checkpoints" / "last.pt"
    (path.parents[1] / "metrics.json").unlink()
    content = load_checkpoint(path)
    for part in ({"optimizer": None}, {"epoch": "a"}, {"log": 5}, {"processes": []}, {"network": 5}):
        torch.save(content | part, path)
        with pytest.raises(SystemExit, match=r"^error: .*last\.pt does not work here \(.*\): give another checkpoint"):
            train()


def test_a_lost_log_is_written_again_from_the_checkpoint(train):
    folder = train()
    log = (folder / "log.jsonl").read_bytes()
    for rest in (b"", log[:-20], log + log):
        (folder / "metrics.json").unlink()
        (folder / "log.jsonl").write_bytes(rest)
        train()
        assert (folder / "log.jsonl").read_bytes() == log


def limited_to(largest_bytes, command):
    """Run a command that can write no larger file."""
    shell = ["bash", "-c", f'ulimit -f {largest_bytes // 1024}; exec "$@"', "limited"]
    return subprocess.run([*shell, *command], capture_output=True, text=True, check=False)


def test_a_full_disk_stops_the_run_with_the_old_checkpoint_intact(interrupted):
    again, folder = interrupted
    path = folder / "checkpoints" / "last.pt"
    before = path.read_bytes()
    done = limited_to(len(before) // 2, again)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {path} cannot be written (File too large); it is as it was: make room, start again\n"
    )
    assert [p.name for p in path.parent.iterdir()] == ["last.pt"]
    assert path.read_bytes() == before
    subprocess.run(again, check=True, capture_output=True)


def test_a_disk_that_is_full_at_the_start_is_told_in_one_line(command):
    first, folder = command("run")
    done = limited_to(1024, first)
    assert done.returncode == 1
    wanted = f"error: {folder / 'config.yaml'} cannot be written (File too large): make room, start again\n"
    assert done.stderr == wanted


def test_a_folder_whose_lock_cannot_be_written_is_told_in_one_line(command):
    first, folder = command("run")
    (folder / ".lock").mkdir(parents=True)  # what a folder of somebody else's comes to, also for root
    done = subprocess.run(first, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {folder / '.lock'} cannot be written (Is a directory): ")
    assert done.stderr.count("\n") == 1


def test_a_second_run_in_the_same_folder_is_refused(command):
    first, folder = command("run", "recipe.epochs=500")
    process = start(first)
    wait_for((folder / "checkpoints" / "last.pt").is_file, process)
    (folder / "checkpoints" / "previous.pt").write_bytes(b"damaged")  # which is not for the second to see to
    second = subprocess.run(first, capture_output=True, text=True, check=False)
    assert process.poll() is None
    assert second.returncode == 1
    assert f"{folder} is being trained by process {process.pid} on " in second.stderr
    assert second.stderr.count("\n") == 1
    process.kill()  # which lets go of the folder
    process.communicate()
    third = start(first)
    wait_for(lambda: f"process {third.pid} on" in (folder / ".lock").read_text(), third)
    third.kill()
    third.communicate()


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
