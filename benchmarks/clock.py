"""A clock that waits for the device."""

import time

import torch


def now_s(device: torch.device) -> float:
    """Seconds since some fixed moment, read once a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
