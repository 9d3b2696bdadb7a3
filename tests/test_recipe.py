"""Learning rates, batch sizes and optimisers of the recipes."""

import pytest
import torch
from torch import nn

from puzzlemix.runtime.errors import InputError
from puzzlemix.training.recipe import Recipe

FAST = [  # the release's 100 ImageNet epochs
    {
        "until_epoch": 15,
        "batch_size": 1024,
        "lr_points": [[0, 0.5], [8, 1.0], [15, 0.125]],
        "view": {"crop_pixels": 128},
    },
    {"until_epoch": 40, "lr_points": [[15, 0.2], [40, 0.02]]},
    {"until_epoch": 100, "lr_points": [[40, 0.02], [65, 0.002], [90, 0.0002], [100, 0.00002]]},
]


def test_the_rate_drops_at_the_milestones():
    recipe = Recipe(epochs=1200, batch_size=100, lr=0.1, lr_milestones_epochs=[400, 800])
    assert [recipe.lr_at(e) for e in (0, 399.99, 400, 799.5)] == pytest.approx([0.1, 0.1, 0.01, 0.01])
    assert recipe.lr_at(800) == pytest.approx(0.001)


def test_milestones_agree_with_pytorchs_scheduler():
    recipe = Recipe(epochs=10, batch_size=100, lr=0.2, lr_milestones_epochs=[3, 7])
    optimizer = recipe.optimizer(nn.Linear(2, 2))
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 7])
    for epoch in range(10):
        assert recipe.lr_at(epoch) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


def test_a_cosine_agrees_with_pytorchs_scheduler():
    steps = 7
    recipe = Recipe(epochs=3, batch_size=100, lr=0.2, schedule="cosine")
    optimizer = recipe.optimizer(nn.Linear(2, 2))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3 * steps)
    for step in range(3 * steps):
        assert recipe.lr_at(step / steps) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert recipe.lr_at(3) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("other", [{"lr_milestones_epochs": [2]}, {"phases": FAST}])
def test_a_cosine_has_neither_milestones_nor_phases(other):
    (key,) = other
    with pytest.raises(InputError, match=rf"recipe.schedule=cosine has no recipe.{key}: add 'recipe.{key}=\[\]'"):
        Recipe(epochs=3, batch_size=100, lr=0.2, schedule="cosine", **other)


def test_seldom_evaluated_are_every_nth_epoch_and_the_last_ten():
    recipe = Recipe(epochs=35, batch_size=100, lr=0.1, evaluate_every_epochs=10)
    evaluated = [epoch + 1 for epoch in range(35) if recipe.evaluates_after(epoch)]
    assert evaluated == [10, 20, *range(26, 36)]
    assert all(map(Recipe(epochs=35, batch_size=100, lr=0.1).evaluates_after, range(35)))
    with pytest.raises(InputError, match=r"recipe.evaluate_every_epochs must be a whole number, at least 1, not 0"):
        Recipe(epochs=35, batch_size=100, lr=0.1, evaluate_every_epochs=0)


def test_phases_interpolate_the_rate_and_change_batch_and_view():
    recipe = Recipe(epochs=100, batch_size=448, lr=1.0, phases=FAST)
    epochs = [0, 4, 8, 11.5, 15, 27.5, 40, 65, 95]
    wanted = [0.5, 0.75, 1.0, 0.5625, 0.2, 0.11, 0.02, 0.002, 0.00011]
    assert [recipe.lr_at(e) for e in epochs] == pytest.approx(wanted)
    assert [recipe.batch_size_at(e) for e in (0, 14, 15, 99)] == [1024, 1024, 448, 448]
    assert recipe.view_at(14) == {"crop_pixels": 128}
    assert recipe.view_at(15) == {}


def test_weight_decay_spares_batch_norm_alone_if_asked():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    decayed = {
        decay: {
            id(p): group["weight_decay"]
            for group in Recipe(2, 10, 0.1, weight_decay=0.5, decay_batch_norm=decay).optimizer(network).param_groups
            for p in group["params"]
        }
        for decay in (True, False)
    }
    assert set(decayed[True].values()) == {0.5}
    assert len(decayed[True]) == len(decayed[False]) == 6
    norm = {id(p) for p in network[1].parameters()}
    assert decayed[False] == {id(p): 0.0 if id(p) in norm else 0.5 for p in network.parameters()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "recipe.epochs"),
        ({"batch_size": 1}, "recipe.batch_size"),
        ({"lr": 0}, "recipe.lr"),
        ({"momentum": 1.0}, "recipe.momentum"),
        ({"momentum": 0.0}, "recipe.nesterov needs momentum"),
        ({"weight_decay": -1}, "recipe.weight_decay"),
        ({"loss": "mse"}, "unknown recipe.loss"),
        ({"epochs": 200, "phases": FAST}, "phases end at epoch"),
        ({"epochs": 20, "phases": FAST[::-1]}, "must be in the order of their until_epoch"),
    ],
)
def test_values_out_of_range_are_named(options, message):
    with pytest.raises(InputError, match=message):
        Recipe(**{"epochs": 10, "batch_size": 10, "lr": 0.1, **options})
