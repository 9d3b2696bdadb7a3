"""Runs of two real processes that are stopped, or lose one of them, end with the numbers of one that never was."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import OF_TWO_PROCESSES, SCRIPTS
from test_resume import log_of
from torch.distributed import TCPStore

from benchmarks.soak import differences
from puzzlemix.runtime import preemption
from puzzlemix.runtime.errors import PreemptedError
from puzzlemix.runtime.rendezvous import RETRY, agree_on_a_name
from puzzlemix.training.checkpoint import load_checkpoint


def torchrun(folder, *options, processes=2, overrides=()):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    script = [
        str(SCRIPTS / "train.py"),
        *OF_TWO_PROCESSES,
        *overrides,
        f"results_dir={folder.parents[1]}",
        f"name={folder.parent.name}",
    ]
    command = [*launcher, *options, *script]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    told, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors[-3000:]
    return told, errors


def workers_of(process):
    """Their process ids, rank 0 first."""
    listed = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False).stdout
    pids = [int(pid) for pid in listed.split()]
    ranks = {}
    for pid in pids:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        if rank := re.search(rb"\0RANK=(\d)", environment):
            ranks[int(rank[1])] = pid
    return [ranks[rank] for rank in sorted(ranks)]


def wait_for(path, process):
    while process.poll() is None and not path.is_file():
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run of two processes that was asked to stop in its first epoch."""
    folder = tmp_path_factory.mktemp("two") / "stopped" / "seed0"
    process = torchrun(folder)
    wait_for(folder / "log.jsonl", process)
    process.send_signal(signal.SIGTERM)  # torchrun passes it on
    told, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert told.count("asked to stop: ") == 1
    return folder


def test_two_processes_asked_to_stop_save_once_and_go_on_from_it(stopped, one_node, tmp_path):
    content = load_checkpoint(stopped / "checkpoints" / "last.pt")
    assert content["epoch"] == 0
    assert 1 <= content["steps_done"] <= 10
    assert len(content["processes"]) == 2
    folder = tmp_path / stopped.parent.name / "seed0"
    shutil.copytree(stopped, folder)
    finish(torchrun(folder))
    assert differences(folder, one_node.folder) == []


@pytest.mark.parametrize("rank", [0, 1])
def test_where_one_process_dies_the_other_says_so_and_ends(tmp_path, rank):
    folder = tmp_path / "run" / "seed0"
    process = torchrun(folder, overrides=["recipe.epochs=1000"])  # so many that the run cannot end before the kill
    wait_for(folder / "checkpoints" / "last.pt", process)
    os.kill(workers_of(process)[rank], signal.SIGKILL)
    died_s = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert time.monotonic() - died_s < 60
    told = [line for line in errors.splitlines() if line.startswith("error:")]
    assert len(told) == 1
    assert told[0].startswith(f"error: process {1 - rank}: another process of this run has ended")
    assert load_checkpoint(folder / "checkpoints" / "last.pt")["epoch"] >= 1


def test_max_restarts_carries_on_to_the_same_numbers(tmp_path, one_node):
    folder = tmp_path / "run" / "seed0"
    process = torchrun(folder, "--max-restarts=1")
    wait_for(folder / "checkpoints" / "last.pt", process)
    os.kill(workers_of(process)[1], signal.SIGKILL)
    finish(process)
    assert differences(folder, one_node.folder) == []


def test_a_run_goes_on_with_another_number_of_processes(stopped, tmp_path):
    folder = tmp_path / stopped.parent.name / "seed0"
    shutil.copytree(stopped, folder)
    finish(torchrun(folder, processes=1))
    assert [record["epoch"] for record in log_of(folder)] == [0, 1, 2]
    assert all(record["images"] == 200 for record in log_of(folder))


def test_processes_do_not_take_the_name_of_an_earlier_start_for_theirs():
    kept = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    kept.set("name", "of a start that ended before all knew it")
    with ThreadPoolExecutor(3) as threads:
        for _ in range(2):  # two starts
            others = [threads.submit(agree_on_a_name, kept.clone(), rank, 3) for rank in (1, 2)]
            time.sleep(0.1)
            first = agree_on_a_name(kept, 0, 3)
            assert [other.result() for other in others] == [first, first]
    assert first != "of a start that ended before all knew it"


def test_the_first_process_answers_a_signal_while_it_waits_for_the_others():
    kept = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=10))
    started_s = time.monotonic()
    with ThreadPoolExecutor(1) as threads:
        threads.submit(lambda: (kept.clone().wait(["name"]), os.kill(os.getpid(), signal.SIGTERM)))
        with pytest.raises(PreemptedError), preemption.answered():
            agree_on_a_name(kept, 0, 2)
    assert time.monotonic() - started_s < 5


def test_a_process_whose_patience_ends_as_the_last_one_comes_goes_on():
    """The name is taken away while it waits for `go`, and may not be asked for again."""
    kept = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    kept.set("name", "this")
    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(agree_on_a_name, kept.clone(), 1, 3)
        kept.wait(["this/1 knows"])
        kept.delete_key("name")
        time.sleep(1.5 * RETRY.total_seconds())
        kept.set("this/go", "")
        assert other.result(timeout=10) == "this"
