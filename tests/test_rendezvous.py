"""Processes that start together find each other, and none of an earlier start."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import TCPStore

from puzzlemix.runtime import preemption
from puzzlemix.runtime.errors import PreemptedError
from puzzlemix.runtime.rendezvous import RETRY, agree_on_a_name


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
