"""Shards: the images that each process sees in an epoch or an evaluation."""

from collections.abc import Sequence

import numpy as np

from puzzlemix.runtime import distributed
from puzzlemix.runtime.seeding import numpy_stream


def epoch_shards(images: int, batch_size: int, drop_last: bool, seed: int, epoch: int) -> list[np.ndarray]:
    """This process's indices for each batch of an epoch: its equal share of each global batch.

    All processes draw the same order, a new one in each epoch. The incomplete last batch is shortened until all
    processes get the same number of images. It is left out if `drop_last`, or if a process would get fewer than the two
    images that mixing needs.

    Args:
        images: number of images in the dataset.
        batch_size: size of the global batch, divisible by the number of processes.
        drop_last: leave out the incomplete batch.
        seed, epoch: fix the order.
    """
    world = distributed.world_size()
    order = numpy_stream("order", seed, epoch).permutation(images)
    shards = []
    for start in range(0, images, batch_size):
        batch = order[start : start + batch_size]
        share = len(batch) // world
        if len(batch) == batch_size or (not drop_last and share >= 2):
            shards.append(batch[places_in_batch(share)])
    return shards


def places_in_batch(share: int) -> slice:
    """The places of this process's images in the global batch; `share` is how many it has."""
    world = distributed.world_size()
    return slice(distributed.rank(), share * world, world)


def evaluation_shards(places: Sequence[int], batch_size: int) -> list[Sequence[int]]:
    """This process's share of `places` in the dataset, in batches of `batch_size`; each place is in one share."""
    own = places[distributed.rank() :: distributed.world_size()]
    return [own[start : start + batch_size] for start in range(0, len(own), batch_size)]
