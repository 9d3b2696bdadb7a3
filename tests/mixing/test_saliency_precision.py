"""The saliency pass in bfloat16: which passes it is, what it changes, and where it is not worth it."""

import warnings

import pytest
import torch
import torch.nn.functional as F

from puzzlemix import AugmentedPuzzleMix, PuzzleMix
from puzzlemix.mixing.puzzle import puzzle_mix
from puzzlemix.mixing.saliency import input_gradient, saliency_of, warn_if_slow
from puzzlemix.networks import preactresnet18
from puzzlemix.runtime.errors import InputError

K = 5
PARTNER = torch.arange(16).roll(1)
GIVEN = {"lam": 0.5, "partner": PARTNER, "blocks": 4}


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = preactresnet18(K, initial_channels=16, mean=[0.5, 0.4, 0.3], std=[0.3, 0.2, 0.1])
    network(torch.rand(64, 3, 16, 16))  # batch norm statistics of its own
    return network


@pytest.fixture
def images():
    return torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(1))


LABELS = torch.arange(16) % K


@pytest.fixture
def dtypes(network):
    """The dtypes that the network's first convolution has returned."""
    seen = []
    network.conv1.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    return seen


def mixed_by(network, images, method=PuzzleMix, **options):
    mixer = method(num_classes=K, **options)
    mixer.draws.seed(0, 0)
    return mixer(network, images, LABELS, **GIVEN)[0]


def test_the_pass_is_in_bfloat16_and_its_gradient_in_float32(network, images, dtypes):
    full, reduced = (input_gradient(network, images, LABELS, precision) for precision in ("same", "bf16"))
    assert dtypes == [torch.float32, torch.bfloat16]
    assert reduced.dtype == torch.float32
    assert not torch.equal(full, reduced)
    alike = F.cosine_similarity(full.flatten(1), reduced.flatten(1))  # (B,)
    assert alike.min() > 0.95
    sizes = reduced.flatten(1).norm(dim=1) / full.flatten(1).norm(dim=1)  # (B,)
    assert (sizes - 1).abs().max() < 0.05


@pytest.mark.parametrize("method", [PuzzleMix, AugmentedPuzzleMix])
def test_every_method_passes_the_images_in_bfloat16_and_mixes_nearly_the_same(network, images, dtypes, method):
    full, reduced = (mixed_by(network, images, method, saliency_precision=p) for p in ("same", "bf16"))
    assert dtypes == [torch.float32, torch.bfloat16]
    is_moved = (full != reduced).any(1).float().mean()  # of all pixels
    assert is_moved < 0.1


def test_in_training_with_bf16_both_are_the_same(network, images):
    with torch.autocast("cpu", torch.bfloat16):
        full, reduced = (mixed_by(network, images, saliency_precision=p) for p in ("same", "bf16"))
    assert torch.equal(full, reduced)


def test_the_sign_step_of_the_noise_follows_the_same_gradient(network, images):
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(2)) * 0.06 - 0.03
    mixer = PuzzleMix(num_classes=K, adv_p=1.0, adv_eps=8.0, saliency_precision="bf16")
    given = {"noisy": (True, True), "start_noise": noise, "noise_scale": 1.0}
    found, _ = mixer(network, images, LABELS, **GIVEN, **given)

    start = (images + noise).clamp(0, 1) - images
    gradient = input_gradient(network, images + start, LABELS, "bf16")
    step = (start + 10 / 255 * gradient.sign()).clamp(-8 / 255, 8 / 255)
    saliency = saliency_of(gradient, network)
    wanted = puzzle_mix(images, saliency, PARTNER, lam=0.5, blocks=4, noise=step, noisy=(True, True)).images
    assert torch.equal(found, wanted)


def test_a_training_pass_for_clean_lam_stays_as_it_is(network, images, dtypes):
    full, reduced = (mixed_by(network, images, clean_lam=1.0, saliency_precision=p) for p in ("same", "bf16"))
    assert dtypes == [torch.float32] * 2
    assert torch.allclose(full, reduced)


def test_an_unknown_precision_is_named():
    with pytest.raises(InputError, match="unknown saliency_precision 'bf15'; did you mean 'bf16'"):
        PuzzleMix(num_classes=K, saliency_precision="bf15")


def test_a_processor_without_bfloat16_is_named_once(network, images, monkeypatch):
    warn_if_slow.cache_clear()
    for instructions in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{instructions}_supported", lambda: False)
    with pytest.warns(UserWarning, match="saliency_precision=bf16 is probably slower than same here"):
        input_gradient(network, images, LABELS, "bf16")
    with warnings.catch_warnings(action="error"):
        input_gradient(network, images, LABELS, "bf16")
        input_gradient(network, images, LABELS)
    warn_if_slow.cache_clear()
