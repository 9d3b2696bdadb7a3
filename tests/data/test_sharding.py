"""Which images each process sees."""

import numpy as np
import pytest

from puzzlemix.data.sharding import epoch_shards, places_in_batch
from puzzlemix.runtime import distributed
from puzzlemix.runtime.seeding import numpy_stream


def shards_of_all(monkeypatch, world, *arguments):
    """Every rank's shards, [rank][batch]."""
    monkeypatch.setattr(distributed, "world_size", lambda: world)
    shards = []
    for rank in range(world):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        shards.append(epoch_shards(*arguments))
    return shards


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_together_the_processes_see_each_batch_once(monkeypatch, world, drop_last):
    images, batch_size, seed, epoch = 103, 12, 5, 7
    order = numpy_stream("order", seed, epoch).permutation(images)
    ranks = shards_of_all(monkeypatch, world, images, batch_size, drop_last, seed, epoch)
    last = 103 % 12 // world  # 7 images are left for the last batch
    assert {len(shards) for shards in ranks} == {8 + (not drop_last and last >= 2)}
    for i, batch in enumerate(zip(*ranks, strict=True)):
        share = 12 // world if i < 8 else last
        assert [len(shard) for shard in batch] == [share] * world
        together = np.concatenate(batch)
        assert sorted(together) == sorted(order[12 * i :][: share * world])
        for rank, shard in enumerate(batch):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            np.testing.assert_array_equal(shard, order[12 * i :][places_in_batch(share)])


@pytest.mark.parametrize(("images", "world", "steps"), [(101, 1, 10), (102, 1, 11), (103, 2, 10), (104, 2, 11)])
def test_a_last_batch_needs_two_images_for_each_process(monkeypatch, images, world, steps):
    for shards in shards_of_all(monkeypatch, world, images, 10, False, 0, 0):
        assert len(shards) == steps
        assert all(len(shard) >= 2 for shard in shards)


def test_the_order_follows_from_seed_and_epoch():
    first = np.concatenate(epoch_shards(100, 10, False, 0, 0))
    assert sorted(first) == list(range(100))
    np.testing.assert_array_equal(np.concatenate(epoch_shards(100, 10, False, 0, 0)), first)
    np.testing.assert_array_equal(np.concatenate(epoch_shards(100, 25, False, 0, 0)), first)  # whatever the batch
    for seed, epoch in ((0, 1), (1, 0)):
        assert (np.concatenate(epoch_shards(100, 10, False, seed, epoch)) != first).any()
