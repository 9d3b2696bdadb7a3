"""Shared by tests of batches: all batches joined, a process's share of an evaluation, and processes in turn."""

import torch

from puzzlemix.data.sharding import evaluation_shards
from puzzlemix.runtime import distributed

CPU = torch.device("cpu")


def joined(batches):
    """All images (N, C, H, W) and labels (N,)."""
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def evaluated_batches(data, batch_size):
    """This process's share of the test images."""
    return data.test_batches(evaluation_shards(range(data.test_count), batch_size))


def ranks(monkeypatch, world):
    """Be each of so many processes in turn."""
    monkeypatch.setattr(distributed, "world_size", lambda: world)
    for rank in range(world):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        yield rank
