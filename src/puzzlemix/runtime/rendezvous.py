"""The store where a run's processes meet under torchrun, also after torchrun has restarted them."""

import os
import time
import uuid
from contextlib import suppress
from datetime import timedelta

from torch.distributed import DistStoreError, PrefixStore, Store, TCPStore

RETRY = timedelta(seconds=1)
LOOK_S = 0.05  # between two checks whether all processes have come


def store_of_this_start() -> Store | None:
    """An empty store for the processes that torchrun has started together; None without torchrun.

    With --max-restarts torchrun keeps one store for all starts, and processes find addresses there of processes that
    have ended (https://github.com/pytorch/pytorch/issues/135712). The machines do not agree on the number of a start,
    so the first process gives each start a name, and the processes use the store below this name.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    kept = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    return PrefixStore(agree_on_a_name(kept, rank, processes), kept)


def agree_on_a_name(store: Store, rank: int, processes: int) -> str:
    """The name of this start, the same on all processes.

    The first process writes a name, waits until all others have said that they know it, deletes it and says `go`. So a
    name that another process finds belongs to this start, or to one that ended before its `go`.
    """
    if rank == 0:
        name = uuid.uuid4().hex
        store.set("name", name)
        all_know = [f"{name}/{other} knows" for other in range(1, processes)]
        deadline_s = time.monotonic() + store.timeout.total_seconds()
        while not store.check(all_know) and time.monotonic() < deadline_s:
            time.sleep(LOOK_S)  # `wait` would react to no signal before it ends
        store.wait(all_know)
        store.delete_key("name")
        store.set(f"{name}/go", "")
        return name
    impatient, name = store.clone(), None
    impatient.set_timeout(RETRY)
    while True:
        with suppress(DistStoreError):  # the name is deleted already
            name = impatient.get("name").decode()
            impatient.set(f"{name}/{rank} knows", "")
        with suppress(DistStoreError):  # there is no `go` yet, or the name is an earlier start's
            impatient.wait([f"{name}/go"])
            return name
