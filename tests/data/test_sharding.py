"""Which images each process sees."""

import numpy as np
import pytest
from batches import ranks

from puzzlemix.data.sharding import epoch_shards, evaluation_shards, places_in_batch
from puzzlemix.runtime.seeding import numpy_stream


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_together_the_processes_see_each_batch_once(monkeypatch, world, drop_last):
    order = numpy_stream("order", 5, 7).permutation(103)
    last = 103 % 12 // world  # each process's share of the last batch, of 7 images
    shares = [12 // world] * 8 + [last] * (not drop_last and last >= 2)
    found = []
    for _ in ranks(monkeypatch, world):
        found.append(epoch_shards(103, 12, drop_last, seed=5, epoch=7))
        assert [len(shard) for shard in found[-1]] == shares
        for i, shard in enumerate(found[-1]):
            np.testing.assert_array_equal(shard, order[12 * i :][places_in_batch(shares[i])])
    for i, batch in enumerate(zip(*found, strict=True)):
        assert sorted(np.concatenate(batch)) == sorted(order[12 * i :][: shares[i] * world])


@pytest.mark.parametrize(("images", "world", "steps"), [(101, 1, 10), (102, 1, 11), (103, 2, 10), (104, 2, 11)])
def test_a_last_batch_needs_two_images_for_each_process(monkeypatch, images, world, steps):
    for _ in ranks(monkeypatch, world):
        shards = epoch_shards(images, 10, False, 0, 0)
        assert len(shards) == steps
        assert all(len(shard) >= 2 for shard in shards)


def test_the_order_follows_from_seed_and_epoch():
    first = np.concatenate(epoch_shards(100, 10, False, 0, 0))
    assert sorted(first) == list(range(100))
    np.testing.assert_array_equal(np.concatenate(epoch_shards(100, 25, False, 0, 0)), first)  # whatever the batch
    for seed, epoch in ((0, 1), (1, 0)):
        assert (np.concatenate(epoch_shards(100, 10, False, seed, epoch)) != first).any()


def test_together_the_processes_evaluate_each_place_once(monkeypatch):
    shares = [evaluation_shards(range(5, 16), 2) for _ in ranks(monkeypatch, 3)]
    assert [[list(shard) for shard in share] for share in shares] == [
        [[5, 8], [11, 14]],
        [[6, 9], [12, 15]],
        [[7, 10], [13]],
    ]
