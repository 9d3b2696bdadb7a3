"""Checkpoints are whole or not there, and damage is noticed."""

import io
import random
import signal
import zipfile

import pytest
import torch
from conftest import full_disk

from puzzlemix.runtime.checkpoint import load_checkpoint, load_newest, save_checkpoint
from puzzlemix.runtime.errors import InputError, RunError


def content(epoch, megabytes=1):
    return {"config": {}, "network": {"w": torch.rand(megabytes, 2**18)}, "epoch": epoch}


@pytest.fixture
def interrupt_soon():
    """`interrupt_soon(seconds)`: Ctrl-C after that long."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_an_interrupted_save_leaves_the_last_checkpoint_and_is_an_interrupt(tmp_path, interrupt_soon):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"config": {}, "network": {}, "epoch": 1})
    weights = {str(i): torch.zeros(2**20) for i in range(500)}  # 2 GB
    interrupt_soon(0.1)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"config": {}, "network": weights, "epoch": 2})
    assert load_checkpoint(path)["epoch"] == 1


def test_a_full_disk_stops_the_save_and_leaves_all_files_as_they_were(tmp_path):
    last, previous = tmp_path / "last.pt", tmp_path / "previous.pt"
    for epoch in (1, 2):
        save_checkpoint(last, content(epoch), previous)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    wanted = r"last\.pt cannot be written \(File too large\); the old file is unchanged: free some space"
    with full_disk(2**20), pytest.raises(RunError, match=wanted):
        save_checkpoint(last, content(3, megabytes=2), previous)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_checkpoint_that_was_there_is_kept(tmp_path):
    last, previous = tmp_path / "last.pt", tmp_path / "previous.pt"
    for epoch in (1, 2, 3):
        save_checkpoint(last, content(epoch), previous)
    assert [load_checkpoint(path)["epoch"] for path in (last, previous)] == [3, 2]


def test_any_damaged_byte_is_noticed(tmp_path):
    """torch.load itself returns other weights without a word."""
    path = tmp_path / "last.pt"
    save_checkpoint(path, content(1))
    whole = path.read_bytes()
    rng = random.Random(0)
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="is damaged or not a checkpoint"):
            load_checkpoint(path)


def records_of(whole, name):
    """Where the zip archive of a checkpoint describes itself, beside its contents: a range of bytes of each kind."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        local, directory = archive.getinfo(name).header_offset, archive.start_dir
    central = whole.index(name.encode(), directory) - 46
    end64, end = whole.index(b"PK\6\6", directory), whole.index(b"PK\5\6", directory)
    assert whole[local:].startswith(b"PK\3\4")
    assert whole[central:].startswith(b"PK\1\2")
    length = len(name)
    return {
        "local header": range(local, local + 30 + length),
        "central record": range(central, central + 46 + length),
        "zip64 end record and locator": range(end64, end),
        "end record": range(end, len(whole)),
    }


def test_a_bit_of_the_archives_own_records_is_noticed_or_changes_nothing(tmp_path):
    """torch.load itself returns memory that nobody has written to, where a bit says that a tensor is a folder."""
    path = tmp_path / "last.pt"
    weights = torch.arange(4.0)
    save_checkpoint(path, {"config": {"name": "a"}, "network": {"w": weights}})
    whole = path.read_bytes()
    noticed = 0
    for kind, places in records_of(whole, "archive/data/0").items():
        for place in places:
            for bit in range(8):
                damaged = bytearray(whole)
                damaged[place] ^= 1 << bit
                path.write_bytes(damaged)
                try:
                    read = load_checkpoint(path)
                except InputError:
                    noticed += 1
                    continue
                assert read["config"] == {"name": "a"}, (kind, place, bit)
                assert torch.equal(read["network"]["w"], weights), (kind, place, bit)
    assert noticed > 500


def test_the_newest_whole_checkpoint_is_loaded(tmp_path, capsys):
    last, previous = tmp_path / "last.pt", tmp_path / "previous.pt"
    assert load_newest([last, previous]) is None
    for epoch in (1, 2):
        save_checkpoint(last, content(epoch), previous)
    assert load_newest([last, previous])[0] == last
    assert capsys.readouterr().err == ""
    last.write_bytes(last.read_bytes()[:1000])
    path, read = load_newest([last, previous])
    assert (path, read["epoch"]) == (previous, 1)
    assert capsys.readouterr().err.startswith(f"warning: {last} is damaged: going on from {previous}")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["last.damaged", "previous.pt"]
    assert load_newest([last, previous])[0] == previous
    previous.write_bytes(b"")
    with pytest.raises(InputError, match=r"previous\.pt is damaged"):
        load_newest([last, previous])
    assert previous.is_file()
