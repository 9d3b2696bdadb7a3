"""One or many processes: who this is, and the few exchanges between them. Everything works unchanged on one process."""

from __future__ import annotations

import atexit
import os
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from puzzlemix.runtime.errors import require, require_choice
from puzzlemix.runtime.rendezvous import store_of_this_start

T = TypeVar("T")
SILENCE = timedelta(minutes=10)  # of a process, after which the others give it up: its machine may have lost power


def rank() -> int:
    """Number of this process, 0 the first."""
    return dist.get_rank() if _joined() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if _joined() else 1


def is_main() -> bool:
    """Whether this process is the one that writes and prints."""
    return rank() == 0


def print_once(line: str) -> None:
    """Print on the first process alone."""
    if is_main():
        print(line)


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of every process's `values`, on every process."""
    if _joined():
        dist.all_reduce(values)
    return values


def from_first_process(value: T) -> T:
    """Rank 0's value, of plain containers and tensors, on every process."""
    values = [value]
    if _joined():
        dist.broadcast_object_list(values, src=0, group=_between_hosts())
    return values[0]


def any_process(true_here: bool) -> bool:
    """Whether it is true on any process, on every process. Between hosts: no GPU is waited for."""
    flag = torch.tensor([float(true_here)])
    if _joined():
        dist.all_reduce(flag, dist.ReduceOp.MAX, group=_between_hosts())
    return bool(flag)


def gather(part: Any) -> list[Any]:
    """Every process's `part`, of plain containers and tensors, in the order of ranks, on every process."""
    parts = [part] * world_size()
    if _joined():
        dist.all_gather_object(parts, part, group=_between_hosts())
    return parts


def share_buffers(network: nn.Module) -> None:
    """Give every process rank 0's buffers (batch norm statistics), so that all evaluate the network that is saved."""
    if _joined():
        for buffer in network.buffers():
            dist.broadcast(buffer, src=0)


def wait_for_all() -> None:
    """Go on once every process has come here."""
    if _joined():
        dist.barrier()


def pick_device(wanted: str) -> torch.device:
    """`auto`, `cpu` or `cuda`: this process's device; under torchrun each takes the GPU of its local rank.

    Raises:
        InputError: CUDA is asked for and absent, or has fewer GPUs than processes.
    """
    require_choice("device", wanted, ("auto", "cpu", "cuda"))
    present = torch.cuda.is_available()
    require(wanted != "cuda" or present, "device=cuda, but torch sees no GPU here: use device=cpu or device=auto")
    if wanted == "cpu" or not present:
        return torch.device("cpu")
    processes, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    require(processes <= gpus, f"{processes} processes on a machine of {gpus} GPUs: lower --nproc-per-node")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def join(wanted_device: str) -> torch.device:
    """Join the processes that torchrun started, if it did, until this one exits; returns this process's device."""
    device = pick_device(wanted_device)
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    if "RANK" in os.environ and not _joined():
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            store=store_of_this_start(),
            rank=int(os.environ["RANK"]),
            world_size=int(os.environ["WORLD_SIZE"]),
            timeout=SILENCE,
            device_id=device if on_gpu else None,
        )
        atexit.register(dist.destroy_process_group)
    return device


def lost_a_process(error: RuntimeError) -> bool:
    """Whether this error came of an exchange with a process that has ended."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def unwrap(model: nn.Module) -> nn.Module:
    """The network itself, out of DistributedDataParallel, DataParallel and torch.compile."""
    parallel = nn.parallel.DistributedDataParallel, nn.DataParallel
    while isinstance(model, parallel) or hasattr(model, "_orig_mod"):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    return model


@cache
def _between_hosts() -> dist.ProcessGroup | None:
    """The group for small exchanges of the hosts; None for all processes' own, where that one is no GPUs'."""
    return dist.new_group(backend="gloo", timeout=SILENCE) if dist.get_backend() == "nccl" else None


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()
