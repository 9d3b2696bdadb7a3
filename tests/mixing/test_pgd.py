"""PGD training, and Puzzle Mix of attacked images, against the attack itself and a loop over pairs."""

from copy import deepcopy

import pytest
import torch

from puzzlemix import PGDTraining, PuzzleMix, PuzzlePGD
from puzzlemix.evaluation.attacks import attack
from puzzlemix.mixing.puzzle import puzzle_mix
from puzzlemix.mixing.saliency import input_gradient, saliency_of
from puzzlemix.networks import preactresnet18
from puzzlemix.runtime.errors import InputError

K = 5
PARTNER = torch.tensor([2, 0, 1, 5, 3, 4])
OPTIONS = {"eps": 8 / 255, "step": 2 / 255, "steps": 7}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def network():
    network = preactresnet18(K, initial_channels=2, mean=[0.5] * 3, std=[0.25] * 3)
    network(torch.rand(8, 3, 16, 16))  # batch norm statistics of its own
    return network


@pytest.fixture
def images():
    return torch.rand(6, 3, 16, 16)


@pytest.fixture
def labels():
    return torch.arange(6) % K


@pytest.fixture
def start_noise(images):
    return torch.empty_like(images).uniform_(-8 / 255, 8 / 255)


def by_attack(network, images, labels, start_noise):
    """The attack on a copy of the network in eval mode."""
    return attack(deepcopy(network).eval(), images, labels, random_start=True, start_noise=start_noise, **OPTIONS)


def test_every_image_is_what_pgd_makes_of_it(network, images, labels, start_noise):
    mixed, targets = PGDTraining(num_classes=K)(network, images, labels, start_noise=start_noise)
    assert torch.equal(mixed, by_attack(network, images, labels, start_noise))
    assert (mixed - images).abs().max() == pytest.approx(8 / 255, abs=1e-6)
    assert torch.equal(targets, torch.eye(K)[labels])


def test_puzzles_are_of_attacked_images_and_their_saliency(network, images, labels, start_noise):
    given = {"lam": 0.4, "partner": PARTNER, "blocks": 4, "start_noise": start_noise}
    mixed, targets = PuzzlePGD(num_classes=K, t_size=2)(network, images, labels, **given)
    attacked = by_attack(network, images, labels, start_noise)
    saliency = saliency_of(input_gradient(network, attacked, labels), network)
    noise = {"noise": attacked - images, "noisy": (True, True)}
    wanted = puzzle_mix(images, saliency, PARTNER, lam=0.4, blocks=4, t_size=2, **noise)
    torch.testing.assert_close(mixed, wanted.images)
    shares = wanted.share[:, None]
    torch.testing.assert_close(targets, shares * torch.eye(K)[labels] + (1 - shares) * torch.eye(K)[labels[PARTNER]])
    assert ((mixed - PuzzleMix(num_classes=K, t_size=2)(network, images, labels, lam=0.4, partner=PARTNER, blocks=4)[0])
            .abs() > 1 / 255).any()  # fmt: skip


def test_coins_that_are_down_leave_plain_puzzle_mix(network, images, labels):
    given = {"lam": 0.4, "partner": PARTNER, "blocks": 4}
    plain = PuzzleMix(num_classes=K)(network, images, labels, **given)
    for ours in (PuzzlePGD(num_classes=K, adv_p=0.0), PuzzlePGD(num_classes=K, adv_steps=1)):
        mixed, targets = ours(network, images, labels, noisy=(False, False), **given)
        assert torch.equal(mixed, plain[0])
        assert torch.equal(targets, plain[1])


@pytest.mark.parametrize("method", [PGDTraining, PuzzlePGD])
def test_the_network_is_left_as_it_was(network, images, labels, method):
    state = deepcopy(network.state_dict())
    network.train()
    network.layer1.eval()
    modes = [module.training for module in network.modules()]
    network.linear.weight.grad = torch.ones_like(network.linear.weight)
    method(num_classes=K)(network, images, labels)
    torch.testing.assert_close(network.state_dict(), state, rtol=0, atol=0)
    assert [module.training for module in network.modules()] == modes
    assert (network.linear.weight.grad == 1).all()
    assert all(p.grad is None for name, p in network.named_parameters() if name != "linear.weight")
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("method", [PGDTraining, PuzzlePGD])
def test_images_in_half_precision_are_attacked_in_float32(network, images, labels, method):
    mixer = method(num_classes=K)
    mixer.draws.seed(0)
    wanted, _ = mixer(network, images.bfloat16().float(), labels)
    mixer.draws.seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = mixer(network, images.bfloat16(), labels)
    assert mixed.dtype == torch.bfloat16
    assert ((mixed.float() - wanted).abs() > 0.01).double().mean() < 0.1  # saliency in bf16 makes some other masks


@pytest.mark.parametrize(
    ("method", "bad", "named"),
    [
        (PGDTraining, {"eps": -1}, "eps"),
        (PGDTraining, {"eps": 300}, "eps"),
        (PGDTraining, {"step": -0.1}, "step"),
        (PGDTraining, {"steps": 0}, "steps"),
        (PGDTraining, {"prob": 2}, "prob"),
        (PuzzlePGD, {"adv_eps": 300}, "adv_eps"),
        (PuzzlePGD, {"adv_step": 300}, "adv_step"),
        (PuzzlePGD, {"adv_steps": 1.5}, "adv_steps"),
        (PuzzlePGD, {"mean": [0.5], "std": [0.5]}, "normalise in the model"),
    ],
)
def test_what_cannot_be_is_named(method, bad, named):
    with pytest.raises(InputError, match=named):
        method(num_classes=K, **bad)


class InPlace(torch.nn.Module):
    """A network that changes its input in place, which fails on a leaf that needs a gradient."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images.sub_(0.1))


@pytest.mark.parametrize("method", [PGDTraining, PuzzlePGD])
def test_a_network_that_begins_in_place_is_attacked(network, images, labels, method):
    mixed, _ = method(num_classes=K)(InPlace(network), images, labels)
    assert mixed.isfinite().all()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda scores: scores[0], "the model must return class scores"),
        (lambda scores: scores.detach(), "the model detaches its scores"),
        (lambda scores: scores[:, :2], "num_classes is 5, but the model has scores for 2 classes"),
    ],
)
@pytest.mark.parametrize("method", [PGDTraining, PuzzlePGD])
def test_a_model_that_cannot_be_attacked_is_named(network, images, labels, method, answer, message):
    network.register_forward_hook(lambda module, inputs, scores: answer(scores))
    with pytest.raises(InputError, match=message):
        method(num_classes=K)(network, images, labels)


@pytest.mark.parametrize("noise", [None, torch.zeros(6, 3, 8, 8)])
def test_noise_of_another_shape_is_named(network, images, labels, noise):
    for method in (PGDTraining, PuzzlePGD):
        with pytest.raises(InputError, match="start_noise must"):
            method(num_classes=K)(network, images, labels, start_noise=noise)


def test_pixels_outside_0_to_1_are_named(network, images, labels):
    with pytest.raises(InputError, match=r"pixels in \[0, 1\]"):
        PGDTraining(num_classes=K)(network, 2 * images, labels)
