"""Attacks against the release's, their closed form, and a network that was really trained."""

import pytest
import torch
import torch.nn.functional as F

from puzzlemix.evaluation.attacks import attack
from puzzlemix.networks import preactresnet18
from puzzlemix.runtime.errors import InputError

FGSM = {"eps": 8 / 255, "step": 8 / 255, "steps": 1, "random_start": False}
PGD = {"eps": 4 / 255, "step": 2 / 255, "steps": 20, "random_start": True}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def accuracy(network, images, labels):
    with torch.no_grad():
        return (network(images).argmax(1) == labels).double().mean().item()


def losses(network, images, labels):
    with torch.no_grad():
        return F.cross_entropy(network(images), labels, reduction="none")


# --- the release's ---


@pytest.mark.parametrize(("name", "preset"), [("fgsm", FGSM), ("pgd", PGD)])
def test_adversarials_are_the_releases(golden, name, preset):
    vectors = golden("attacks")
    meta, used = vectors["meta"], getattr(vectors["meta"], name)
    assert (used["eps"] / 255, used["step"] / 255, used["iters"]) == (preset["eps"], preset["step"], preset["steps"])
    network = preactresnet18(10, 4, mean=meta.mean, std=meta.std)
    network.load_state_dict({k.removeprefix("model."): v for k, v in vectors.items() if k.startswith("model.")})
    network.eval()
    images, labels = vectors["images"], vectors["labels"]
    torch.testing.assert_close(network(images), vectors["clean_logits"], atol=1e-4, rtol=1e-4)

    start = vectors["start_noise"] if name == "pgd" else None
    adversarial = attack(network, images, labels, start_noise=start, **preset)

    wanted, logits = vectors[f"{name}_adversarial"], vectors[f"{name}_logits"]
    assert ((adversarial - wanted).abs() > 1e-5).double().mean() < 0.003  # a sign at a gradient of nearly zero may flip
    torch.testing.assert_close(network(wanted), logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        network(adversarial), logits, atol=0.05 * (logits - vectors["clean_logits"]).std(), rtol=0
    )


# --- what an attack is ---


def test_fgsm_is_one_signed_step_clipped_to_pixels(network, held_out):
    images, labels = held_out
    leaf = images.clone().requires_grad_()
    gradient = torch.autograd.grad(F.cross_entropy(network(leaf), labels), leaf)[0]
    wanted = (images + 8 / 255 * gradient.sign()).clamp(0, 1)
    adversarial = attack(network, images, labels, **FGSM)
    assert ((adversarial - wanted).abs() > 1e-6).double().mean() < 1e-3  # a sign at a gradient of nearly zero may flip


def test_two_steps_follow_the_gradient_where_the_first_one_led(network, held_out):
    images, labels = held_out
    eps, step = 0.1, 0.08
    current = images
    for _ in range(2):
        leaf = current.clone().requires_grad_()
        gradient = torch.autograd.grad(F.cross_entropy(network(leaf), labels), leaf)[0]
        moved = current + step * gradient.sign()
        current = torch.minimum(torch.maximum(moved, images - eps), images + eps).clamp(0, 1)
    adversarial = attack(network, images, labels, eps=eps, step=step, steps=2, random_start=False)
    assert ((adversarial - current).abs() > 1e-6).double().mean() < 1e-2


@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize(("eps", "step", "steps"), [(0.03, 0.03, 1), (0.1, 0.3, 3), (0.3, 0.01, 2), (1.0, 0.5, 4)])
def test_adversarials_are_pixels_within_eps(network, held_out, eps, step, steps, random_start):
    images, labels = held_out
    adversarial = attack(network, images, labels, eps=eps, step=step, steps=steps, random_start=random_start)
    assert adversarial.shape == images.shape
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    assert (adversarial - images).abs().max() <= eps + 1e-6
    assert not adversarial.requires_grad


@pytest.mark.parametrize("random_start", [False, True])
def test_eps_zero_gives_the_images_back(network, held_out, random_start):
    images, labels = held_out
    adversarial = attack(network, images, labels, eps=0.0, step=0.1, steps=3, random_start=random_start)
    assert torch.equal(adversarial, images)


def test_each_image_is_attacked_as_if_it_were_alone(network, held_out):
    images, labels = (data[:5] for data in held_out)
    together = attack(network, images, labels, **(PGD | {"random_start": False}))
    alone = [attack(network, images[[i]], labels[[i]], **(PGD | {"random_start": False})) for i in range(5)]
    assert ((together - torch.cat(alone)).abs() > 1e-6).double().mean() < 0.01


def test_an_empty_batch_stays_empty(network, held_out):
    images, labels = (data[:0] for data in held_out)
    assert attack(network, images, labels, **FGSM).shape == images.shape


# --- what an attack does ---


def test_the_trained_network_knows_its_digits(network, held_out):
    assert accuracy(network, *held_out) > 0.85


@pytest.mark.parametrize("random_start", [False, True])
def test_no_images_loss_is_lower_after_pgd(network, held_out, random_start):
    images, labels = held_out
    small_steps = {"eps": 0.05, "step": 0.01, "steps": 10, "random_start": random_start}
    after = losses(network, attack(network, images, labels, **small_steps), labels)
    assert (after >= losses(network, images, labels) - 1e-6).all()  # float32 rounds losses near 0 by 1e-7


def test_accuracy_falls_with_eps_and_with_steps(network, held_out):
    images, labels = held_out

    def attacked(eps, steps):
        options = {"eps": eps, "step": eps if steps == 1 else eps / 4, "steps": steps, "random_start": False}
        return accuracy(network, attack(network, images, labels, **options), labels)

    clean, fgsm = accuracy(network, images, labels), [attacked(eps, 1) for eps in (0.02, 0.1, 0.2)]
    assert clean >= fgsm[0] > fgsm[1] > fgsm[2]
    assert attacked(0.1, 10) < fgsm[1]


# --- restarts ---


def test_restarts_keep_what_fooled_and_attack_the_rest_again(network, held_out):
    images, labels = held_out
    options = {"eps": 0.08, "step": 0.08, "steps": 1, "random_start": True}
    once = attack(network, images, labels, generator=torch.Generator().manual_seed(0), **options)
    often = attack(network, images, labels, generator=torch.Generator().manual_seed(0), restarts=8, **options)
    fooled = network(once).argmax(1) != labels
    assert torch.equal(often[fooled], once[fooled])
    assert (often[~fooled] != once[~fooled]).any()
    assert accuracy(network, often, labels) < accuracy(network, once, labels)
    assert (often - images).abs().max() <= 0.08 + 1e-6


def test_what_is_left_after_restarts_is_what_every_single_attack_leaves(network, held_out):
    """Of one step from a random start: no attack may be worse than the ones that it consists of."""
    images, labels = held_out
    options = {"eps": 0.08, "step": 0.08, "steps": 1, "random_start": True}
    generator = torch.Generator().manual_seed(3)
    known = torch.ones(len(labels), dtype=torch.bool)
    for _ in range(4):  # each on what is left, by the same stream
        found = attack(network, images[known], labels[known], generator=generator, **options)
        known[known.clone()] = network(found).argmax(1) == labels[known]
    often = attack(network, images, labels, generator=torch.Generator().manual_seed(3), restarts=4, **options)
    assert torch.equal(network(often).argmax(1) == labels, known)


# --- what it leaves alone ---


def test_network_and_images_stay_as_they_were(network, held_out):
    images, labels = held_out
    given = images.clone()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    attack(network, given, labels, **PGD)
    assert torch.equal(given, images)
    assert not given.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_it_works_without_grad_mode(network, held_out):
    wanted = attack(network, *held_out, **FGSM)
    with torch.no_grad():
        assert torch.equal(attack(network, *held_out, **FGSM), wanted)


def test_a_generator_makes_the_random_start_repeatable(network, held_out):
    def attacked(seed):
        return attack(network, *held_out, generator=torch.Generator().manual_seed(seed), **PGD)

    global_state = torch.get_rng_state()
    first = attacked(1)
    assert torch.equal(attacked(1), first)
    assert not torch.equal(attacked(2), first)
    assert torch.equal(torch.get_rng_state(), global_state)


def test_the_random_start_fills_the_ball(network):
    images, labels = torch.full((400, 1, 8, 8), 0.5), torch.zeros(400, dtype=torch.int64)
    noise = attack(network, images, labels, eps=0.1, step=0.0, steps=1, random_start=True) - images
    assert noise.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.02)  # of a uniform distribution
    assert noise.mean().item() == pytest.approx(0, abs=0.002)


# --- what cannot work ---


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"eps": 8}, "eps.*8/255"),
        ({"eps": -0.1}, "eps"),
        ({"step": 2}, "step.*2/255"),
        ({"steps": 0}, "steps"),
        ({"restarts": 0, "random_start": True}, "restarts"),
        ({"restarts": 2}, "restarts need random_start"),
        ({"random_start": "yes"}, "random_start must be true or false"),
    ],
)
def test_a_parameter_out_of_range_is_named(network, held_out, bad, message):
    with pytest.raises(InputError, match=message):
        attack(network, *held_out, **(FGSM | bad))


def test_a_network_in_train_mode_is_an_error(held_out):
    with pytest.raises(InputError, match=r"network\.eval\(\)"):
        attack(preactresnet18(10, 2, mean=[0.5], std=[0.5]), *held_out, **FGSM)


@pytest.mark.parametrize("shift", [-0.5, 0.5, float("nan")])
def test_images_that_are_not_pixels_are_an_error(network, held_out, shift):
    images, labels = held_out
    with pytest.raises(InputError, match=r"pixels in \[0, 1\]"):
        attack(network, images + shift, labels, **FGSM)


def test_images_in_half_precision_are_an_error(network, held_out):
    images, labels = held_out
    with pytest.raises(InputError, match=r"float32, not torch\.bfloat16"):
        attack(network, images.bfloat16(), labels, **FGSM)


def test_noise_for_an_attack_without_a_random_start_is_an_error(network, held_out):
    with pytest.raises(InputError, match="start_noise is for a random start"):
        attack(network, *held_out, **FGSM, start_noise=torch.zeros_like(held_out[0]))


def test_labels_that_are_to_be_ignored_are_an_error(network, held_out):
    """Their gradient is zero, so that an attack would seem to fail."""
    images, labels = held_out
    with pytest.raises(InputError, match="labels go from -100 to"):
        attack(network, images, torch.full_like(labels, -100).index_fill(0, torch.tensor([0]), 3), **FGSM)


def test_attacks_are_in_float32_inside_autocast(network, held_out):
    wanted = attack(network, *held_out, **FGSM)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(attack(network, *held_out, **FGSM), wanted)
