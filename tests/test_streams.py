"""Random streams of different purposes share nothing."""

import numpy as np
import pytest
import torch

from puzzlemix.data.sharding import epoch_shards
from puzzlemix.mixing.draws import Draws
from puzzlemix.runtime.seeding import numpy_stream, torch_seed


@pytest.mark.parametrize("numbers", [(0,), (5, 7), (5, 7, 0)])
def test_a_stream_is_fixed_by_its_purpose_and_numbers(numbers):
    assert numpy_stream("order", *numbers).random() == numpy_stream("order", *numbers).random()
    assert torch_seed("order", *numbers) == torch_seed("order", *numbers)
    assert numpy_stream("order", *numbers).random() != numpy_stream("draws", *numbers).random()
    assert torch_seed("order", *numbers) != torch_seed("draws", *numbers)
    assert torch_seed("order", *numbers) != torch_seed("order", 6, *numbers[1:])
    torch.Generator().manual_seed(torch_seed("order", *numbers))  # is in its range


def test_the_order_of_images_does_not_repeat_in_the_mixers_draws():
    order = np.concatenate(epoch_shards(100, 10, False, seed=5, epoch=7))
    draws = Draws()
    draws.seed(5, 7)
    for stream in draws._streams():
        assert not np.array_equal(stream.permutation(100), order)
