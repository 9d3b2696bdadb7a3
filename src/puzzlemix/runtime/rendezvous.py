"""How the processes of a run find each other under torchrun, also where it has started them anew."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import suppress
from datetime import timedelta

from torch.distributed import DistStoreError, PrefixStore, Store, TCPStore

RETRY = timedelta(seconds=1)
LOOK_S = 0.05  # between two looks at who has come


def store_of_this_start() -> Store | None:
    """A store that holds nothing yet, for the processes that torchrun has started together; None without torchrun.

    With --max-restarts torchrun keeps one store for all starts, in which processes find the addresses of those that
    have ended (https://github.com/pytorch/pytorch/issues/135712), and no number of the start is the same on all
    machines. So the first process gives each start a name of its own, once all have said that they know it.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    kept = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    return PrefixStore(agree_on_a_name(kept, rank, processes), kept)


def agree_on_a_name(store: Store, rank: int, processes: int) -> str:
    """The first process writes a name, and takes it away before it says `go`: a name found is of this start, or of one
    that ended before its `go`.
    """
    if rank == 0:
        name = uuid.uuid4().hex
        store.set("name", name)
        all_know = [f"{name}/{other} knows" for other in range(1, processes)]
        deadline_s = time.monotonic() + store.timeout.total_seconds()
        while not store.check(all_know) and time.monotonic() < deadline_s:
            time.sleep(LOOK_S)  # not in `wait`, which answers no signal before it ends
        store.wait(all_know)
        store.delete_key("name")
        store.set(f"{name}/go", "")
        return name
    impatient, name = store.clone(), None
    impatient.set_timeout(RETRY)
    while True:
        with suppress(DistStoreError):  # taken away already
            name = impatient.get("name").decode()
            impatient.set(f"{name}/{rank} knows", "")
        with suppress(DistStoreError):  # not yet, or the name is of an earlier start
            impatient.wait([f"{name}/go"])
            return name
