"""AugMix against its paper's Algorithm 1 and its code, written as plain loops."""

import math

import numpy as np
import pytest
import torch
from test_operations import by_pillow

from benchmarks.photographs import crops
from puzzlemix import Augmentation, AugmentedPuzzleMix, AugMix, PuzzleMix
from puzzlemix.mixing.augmix import NONE, OPERATIONS
from puzzlemix.mixing.draws import Draws
from puzzlemix.mixing.losses import LOSSES
from puzzlemix.networks import preactresnet18
from puzzlemix.runtime.errors import InputError

K = 10


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def network():
    return preactresnet18(K, initial_channels=2, mean=[0.5] * 3, std=[0.25] * 3)


@pytest.fixture
def images():
    return crops(8, 16, 20, seed=1).float() / 255


@pytest.fixture
def labels():
    return torch.arange(8) % K


def seeded():
    draws = Draws()
    draws.seed(3)
    return draws


# --- the augmentation ---


@pytest.mark.parametrize("options", [{}, {"depth": 2, "width": 2, "severity": 8}])
def test_an_image_is_augmented_as_algorithm_1_says(images, options):
    augmentation = Augmentation(**options)
    chains = augmentation.draw(len(images), seeded())
    ours = augmentation(images, chains)
    for i, image in enumerate(images):
        mixed = torch.zeros_like(image)
        for width in range(augmentation.width):
            end = (image * 255).round().to(torch.uint8)
            for step in range(len(chains.operation)):
                operation, level, sign = (drawn[step, i, width] for drawn in chains[:3])
                if operation != NONE:
                    end = by_pillow(end, OPERATIONS[operation], level, sign)
            mixed += chains.weight[i, width] * end.float() / 255
        wanted = (1 - chains.share[i]) * image + chains.share[i] * mixed
        # One grey level may put a pixel on the other side of solarize's threshold.
        assert ((ours[i] - wanted).abs() > 1.01 / 255).double().mean() < 0.01


def test_what_is_drawn_is_as_the_paper_says():
    chains = Augmentation().draw(20_000, seeded())
    lengths = (chains.operation != NONE).sum(0)
    assert ((chains.operation != NONE) == (np.arange(3)[:, None, None] < lengths)).all()  # from a chain's beginning on
    assert np.bincount(lengths.ravel())[1:] / lengths.size == pytest.approx([1 / 3] * 3, abs=0.01)
    used = chains.operation[chains.operation != NONE]
    assert np.bincount(used) / used.size == pytest.approx([1 / len(OPERATIONS)] * len(OPERATIONS), abs=0.01)
    assert chains.level.min() >= 0.1
    assert chains.level.max() <= 3
    assert chains.level.mean() == pytest.approx(1.55, abs=0.01)
    assert set(np.unique(chains.sign)) == {-1, 1}
    assert chains.sign.mean() == pytest.approx(0, abs=0.01)
    assert chains.weight.sum(1) == pytest.approx(1)
    assert chains.weight.var(0) == pytest.approx([1 / 18] * 3, rel=0.05)  # of Dirichlet(1, 1, 1)
    assert np.histogram(chains.share, 4, (0, 1))[0] / 20_000 == pytest.approx([0.25] * 4, abs=0.015)


def test_a_depth_that_is_given_is_every_chains():
    operation = Augmentation(depth=5, width=2).draw(100, seeded()).operation
    assert operation.shape == (5, 100, 2)
    assert operation.min() >= 0


@pytest.mark.parametrize(
    "bad", [{"severity": 0}, {"severity": 11}, {"width": 0}, {"depth": 0}, {"depth": 1.5}, {"alpha": 0}]
)
def test_a_parameter_out_of_range_is_named(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        Augmentation(**bad)


# --- the method ---


def test_views_follow_the_images_and_differ(network, images, labels):
    fed, targets = AugMix(num_classes=K)(network, images, labels)
    first, second, third = fed.unflatten(0, (3, -1))
    assert targets.shape == (8, K)
    assert fed.min() >= 0
    assert fed.max() <= 1
    for i in range(8):
        assert not any(torch.equal(a[i], b[i]) for a, b in ((first, second), (first, third), (second, third)))


def test_the_first_views_are_the_images(network, images, labels):
    fed, targets = AugMix(num_classes=K)(network, images, labels)
    assert torch.equal(fed[:8], images)
    assert torch.equal(targets, torch.eye(K)[labels])


def test_puzzle_mix_is_of_images_that_were_augmented_once(network, images, labels):
    given = {"lam": 0.4, "partner": torch.arange(8).roll(1), "blocks": 4}
    mixer = AugmentedPuzzleMix(num_classes=K)
    chains = mixer.augmentation.draw(8, seeded())
    mixed, targets = mixer(network, images, labels, **given, chains=chains)
    augmented = Augmentation()(images, chains)
    wanted, wanted_targets = PuzzleMix(num_classes=K)(network, augmented, labels, **given)  # with their saliency
    assert torch.equal(mixed, wanted)
    assert torch.equal(targets, wanted_targets)
    assert not torch.equal(mixed, PuzzleMix(num_classes=K)(network, images, labels, **given)[0])
    for loss in LOSSES.values():  # no divergence
        assert torch.equal(mixer.loss(loss, mixed.flatten(1)[:, :K], targets), loss(mixed.flatten(1)[:, :K], targets))


def test_puzzle_mix_evaluates_the_network_once_more_and_augmix_twice(network, images, labels):
    seen = []
    hook = network.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    counts = {}
    for method in (AugMix, AugmentedPuzzleMix, PuzzleMix):
        seen.clear()
        mixed, _ = method(num_classes=K)(network, images, labels)
        network(mixed)
        counts[method] = sum(seen) // len(images)
    hook.remove()
    assert counts == {AugMix: 3, AugmentedPuzzleMix: 2, PuzzleMix: 2}


@pytest.mark.parametrize(("loss", "scale"), [("soft_cross_entropy", 1.0), ("bce_on_softmax", 2 / K)])
def test_the_loss_has_the_divergence_of_the_three_answers(loss, scale):
    """`augmix/cifar.py`: 12 times the mean of three KL divergences from the mean prediction, written with `math`."""
    logits, targets = 2 * torch.randn(12, K), torch.rand(4, K).softmax(1)
    answers = logits.softmax(1).view(3, 4, K).tolist()
    divergence = 0.0
    for i in range(4):
        mean = [max(sum(view[i][k] for view in answers) / 3, 1e-7) for k in range(K)]
        for view in answers:
            divergence += sum(p * (math.log(p) - math.log(q)) for p, q in zip(view[i], mean, strict=True)) / (3 * 4)
    ours = AugMix(num_classes=K, loss=loss).loss(LOSSES[loss], logits, targets)
    assert ours.item() == pytest.approx(LOSSES[loss](logits[:4], targets).item() + 12 * scale * divergence, rel=1e-5)
    without = AugMix(num_classes=K, loss=loss, coefficient=0.0).loss(LOSSES[loss], logits, targets)
    assert torch.equal(without, LOSSES[loss](logits[:4], targets))


def test_draws_follow_from_the_seed(network, images, labels):
    def fed(seed):
        mixer = AugMix(num_classes=K)
        mixer.draws.seed(seed)
        return mixer(network, images, labels)[0]

    assert torch.equal(fed(1), fed(1))
    assert not torch.equal(fed(1), fed(2))


@pytest.mark.parametrize("method", [AugMix, AugmentedPuzzleMix])
def test_images_that_are_not_pixels_are_named(network, images, labels, method):
    for other in (255 * images, images - 0.5):
        with pytest.raises(InputError, match=r"images must be pixels in \[0, 1\]"):
            method(num_classes=K)(network, other, labels)
    with pytest.raises(InputError, match="normalise in the model"):
        AugmentedPuzzleMix(num_classes=K, mean=[0.5], std=[0.5])


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels_will_do(images, channels):
    """Each channel is augmented as it would be alone, because no operation looks at two channels."""
    augmentation, images = Augmentation(), images.repeat(1, 2, 1, 1)[:, :channels]
    chains = augmentation.draw(len(images), seeded())
    augmented = augmentation(images, chains)
    alone = [augmentation(images[:, [channel]], chains) for channel in range(channels)]
    torch.testing.assert_close(augmented, torch.cat(alone, 1))


@pytest.mark.parametrize(
    ("method", "bad"),
    [
        (AugMix, {"coefficient": -1}),
        (AugMix, {"coefficient": "12"}),
        (AugMix, {"loss": "mse"}),
        (AugMix, {"augmentation": "abc"}),
        (AugmentedPuzzleMix, {"augmentation": "abc"}),
        (AugmentedPuzzleMix, {"loss": "mse"}),
    ],
)
def test_a_parameter_that_cannot_be_is_named(method, bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        method(num_classes=K, **bad)
