"""FGSM and PGD against those of foolbox, on a network that was really trained."""

import pytest
import torch

from puzzlemix.evaluation.attacks import attack

foolbox = pytest.importorskip("foolbox", reason="foolbox is installed for tests only")


@pytest.fixture
def rest(digits):
    """The 597 digits that the network was not trained on: one of them is 0.17 points."""
    return tuple(part[1200:] for part in digits)


@pytest.fixture
def theirs(network):
    return foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")


def error(network, images, labels):
    with torch.no_grad():
        return 100 * float((network(images).argmax(1) != labels).double().mean())


@pytest.mark.parametrize("eps_255", [4, 8, 16, 32])
def test_fgsm_is_foolboxs(network, theirs, rest, eps_255):
    images, labels = rest
    options = {"eps": eps_255 / 255, "step": eps_255 / 255, "steps": 1, "random_start": False}
    ours = attack(network, images, labels, **options)
    _, wanted, _ = foolbox.attacks.LinfFastGradientAttack()(theirs, images, labels, epsilons=eps_255 / 255)
    assert error(network, ours, labels) == pytest.approx(error(network, wanted, labels), abs=0.2)
    assert error(network, images, labels) < error(network, wanted, labels) < 100


@pytest.mark.parametrize(("eps_255", "step_255", "steps"), [(4, 2, 20), (8, 2, 7), (16, 4, 20), (32, 8, 20)])
@pytest.mark.parametrize("random_start", [False, True])
def test_pgd_is_foolboxs(network, theirs, rest, eps_255, step_255, steps, random_start):
    images, labels = rest
    eps, step = eps_255 / 255, step_255 / 255
    torch.manual_seed(0)
    start = torch.rand_like(images) * 2 * eps - eps if random_start else None
    ours = attack(
        network, images, labels, eps=eps, step=step, steps=steps, random_start=random_start, start_noise=start
    )
    torch.manual_seed(0)  # so that foolbox starts where we did
    pgd = foolbox.attacks.LinfPGD(abs_stepsize=step, steps=steps, random_start=random_start)
    _, wanted, _ = pgd(theirs, images, labels, epsilons=eps)
    assert error(network, ours, labels) == pytest.approx(error(network, wanted, labels), abs=0.2)
    assert error(network, images, labels) < error(network, wanted, labels) < 100
    assert ((ours - wanted).abs() > 1e-5).double().mean() < 0.02  # a sign at a gradient of nearly zero may flip
