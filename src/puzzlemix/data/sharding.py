"""Which images each process sees in an epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from puzzlemix.runtime import distributed
from puzzlemix.runtime.seeding import numpy_stream


def epoch_shards(images: int, batch_size: int, drop_last: bool, seed: int, epoch: int) -> list[np.ndarray]:
    """This process's indices, batch by batch: equal shares of global batches in an order that all processes share.

    The last, incomplete batch is kept unless `drop_last`, less what does not divide among the processes, and left out
    where it would leave a process fewer than the two images that mixing needs. The order is new each epoch, so no
    image is left out for long.

    Args:
        images: in the dataset.
        batch_size: of the global batch; divisible by the number of processes.
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
    """Where this process's share, of so many images, stands in the global batch."""
    world = distributed.world_size()
    return slice(distributed.rank(), share * world, world)


def evaluation_shards(places: Sequence[int], batch_size: int) -> list[Sequence[int]]:
    """This process's share of images to evaluate on, batch by batch; every image is in one process's shards.

    Args:
        places: of the images in the dataset.
        batch_size: of each process.
    """
    own = places[distributed.rank() :: distributed.world_size()]
    return [own[start : start + batch_size] for start in range(0, len(own), batch_size)]
