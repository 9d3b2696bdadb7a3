"""The processes of a run: the rank of this one, and exchanges between them. A single process may call all of it."""

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
SILENCE = timedelta(minutes=10)  # after this time without a process, which may have lost power, the others give up


def rank() -> int:
    """The number of this process; the first has 0."""
    return dist.get_rank() if _has_joined() else 0


def world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if _has_joined() else 1


def is_main() -> bool:
    """Whether this is the first process, which alone writes and prints."""
    return rank() == 0


def print_once(line: str) -> None:
    """Print a line on the first process only."""
    if is_main():
        print(line)


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of all processes' `values`, on every process, in place."""
    if _has_joined():
        dist.all_reduce(values)
    return values


def from_first_process(value: T) -> T:
    """The first process's value, of plain containers and tensors, on every process."""
    values = [value]
    if _has_joined():
        dist.broadcast_object_list(values, src=0, group=_between_hosts())
    return values[0]


def any_process(is_true_here: bool) -> bool:
    """Whether `is_true_here` is true on any process. All get the same answer, and none waits for a GPU."""
    flag = torch.tensor([float(is_true_here)])
    if _has_joined():
        dist.all_reduce(flag, dist.ReduceOp.MAX, group=_between_hosts())
    return bool(flag)


def gather(part: Any) -> list[Any]:
    """The parts of all processes, of plain containers and tensors, in the order of ranks, on every process."""
    parts = [part] * world_size()
    if _has_joined():
        dist.all_gather_object(parts, part, group=_between_hosts())
    return parts


def share_buffers(network: nn.Module) -> None:
    """Give every process the first one's buffers (batch norm statistics), so that all evaluate the saved network."""
    if _has_joined():
        for buffer in network.buffers():
            dist.broadcast(buffer, src=0)


def wait_for_all() -> None:
    """Return once every process has called this."""
    if _has_joined():
        dist.barrier()


def pick_device(wanted: str) -> torch.device:
    """The device of this process for `auto`, `cpu` or `cuda`; under torchrun, the GPU of its local rank.

    Raises:
        InputError: a GPU is wanted but there is none, or there are fewer GPUs than processes.
    """
    require_choice("device", wanted, ("auto", "cpu", "cuda"))
    has_gpu = torch.cuda.is_available()
    require(wanted != "cuda" or has_gpu, "device=cuda, but torch sees no GPU here: use device=cpu or device=auto")
    if wanted == "cpu" or not has_gpu:
        return torch.device("cpu")
    processes, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    require(processes <= gpus, f"{processes} processes on a machine of {gpus} GPUs: lower --nproc-per-node")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def join(wanted_device: str) -> torch.device:
    """Join the other processes if torchrun has started several, and return this process's device."""
    device = pick_device(wanted_device)
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    if "RANK" in os.environ and not _has_joined():
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


def is_lost_process(error: Exception) -> bool:
    """Whether an error means that another process of this run has ended."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def unwrap(model: nn.Module) -> nn.Module:
    """The network itself, without the wrappers of DistributedDataParallel, DataParallel and torch.compile."""
    parallel = nn.parallel.DistributedDataParallel, nn.DataParallel
    while isinstance(model, parallel) or hasattr(model, "_orig_mod"):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    return model


@cache
def _between_hosts() -> dist.ProcessGroup | None:
    """The group for exchanges without GPUs. None means the default group, if it works without them."""
    return dist.new_group(backend="gloo", timeout=SILENCE) if dist.get_backend() == "nccl" else None


def _has_joined() -> bool:
    return dist.is_available() and dist.is_initialized()
