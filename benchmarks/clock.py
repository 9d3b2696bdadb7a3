"""The time, once a device has done what it was given to do."""

import time

import torch


def now_s(device: torch.device) -> float:
    """Seconds of a clock that starts anywhere; a GPU, which would still be at work, is waited for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
