"""Two nodes, each started by a torchrun of its own, that meet on loopback: one run, as on one node."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import OF_TWO_PROCESSES, SCRIPTS

from benchmarks.soak import descendants, differences
from puzzlemix.runtime.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow


def start(ours, theirs, *overrides):
    """The torchrun of each of two nodes; torchrun makes the node of the lower address the first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{free.getsockname()[1]}"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    launcher += ["--rdzv-backend=c10d", f"--rdzv-endpoint={meeting}", "--rdzv-id=run"]
    script = [str(SCRIPTS / "train.py"), *OF_TWO_PROCESSES, "name=run", *overrides]
    return [
        subprocess.Popen(
            [
                *launcher,
                f"--node-rank={node}",
                f"--local-addr=127.0.0.{node + 1}",
                *script,
                f"results_dir={results_dir}",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # as torchrun has it of two processes of one node: bits differ
        )
        for node, results_dir in enumerate((ours, theirs))
    ]


def finish(nodes):
    """What each node wrote to stdout."""
    outputs = [node.communicate(timeout=200) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], [errors[-3000:] for _, errors in outputs]
    return [told for told, _ in outputs]


def kill(nodes):
    """At once, and all that they have started."""
    for pid in [pid for node in nodes for pid in (node.pid, *descendants(node.pid))]:
        os.kill(pid, signal.SIGKILL)
    for node in nodes:
        node.communicate()


def test_two_nodes_train_the_run_of_one(tmp_path, one_node):
    told, other = finish(start(tmp_path, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    folder = tmp_path / "run" / "seed0"
    assert [json.loads(line)["epoch"] for line in (folder / "log.jsonl").read_text().splitlines()] == [0, 1, 2]
    assert json.loads((folder / "metrics.json").read_text())["machine"]["processes"] == 2
    assert (told.count(f"{folder}: top1_error"), len(told.splitlines()), other) == (1, 1, "")
    assert differences(folder, one_node) == []


def test_machines_that_share_no_folder_go_on_after_both_were_killed(tmp_path, one_node, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # for the network
    monkeypatch.setenv("LET_GO", str(tmp_path / "let_go"))
    held = "network._target_=odd_networks.held"
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    theirs.mkdir()
    folder = ours / "run" / "seed0"
    checkpoint = folder / "checkpoints" / "last.pt"
    nodes = start(ours, theirs, held)
    while all(node.poll() is None for node in nodes) and not checkpoint.is_file():
        time.sleep(0.01)
    kill(nodes)
    assert load_checkpoint(checkpoint)["epoch"] == 1
    assert not (folder / "metrics.json").exists()
    (tmp_path / "let_go").touch()
    finish(start(ours, theirs, held))
    assert differences(folder, one_node) == []
    assert not any(theirs.iterdir())
