"""Whole training steps, from images to the weights after SGD, against the authors' release."""

import pytest
import torch

from puzzlemix import CutMix, InputMixup, ManifoldMixup, Mixer, PuzzleMix
from puzzlemix.mixing.losses import bce_on_softmax
from puzzlemix.networks import preactresnet18, wide_resnet

STEPS = [
    *(f"step_preact_{m}" for m in ("vanilla", "input", "manifold", "cutmix")),
    *(f"step_preact_{m}" for m in ("puzzle", "puzzle_clean", "puzzle_adversarial")),
    *(f"step_wrn_{m}" for m in ("vanilla", "input", "manifold", "cutmix", "puzzle")),
]


def network_of(meta, weights):
    options = {"num_classes": meta.num_classes, "mean": meta.mean, "std": meta.std}
    stride = getattr(meta, "stride", 1)
    if meta.architecture == "preact":
        network = preactresnet18(initial_channels=4, stride=stride, **options)
    else:
        network = wide_resnet(10, 1, stride=stride, **options)
    network.load_state_dict(weights)  # strict: the names are the release's
    return network


def weights_of(vectors, prefix):
    return {k.removeprefix(prefix): v for k, v in vectors.items() if k.startswith(prefix)}


def mixer_of(meta, normalised):
    """The method of the step; `normalised` gives Puzzle Mix inputs that its caller has normalised."""
    if meta.method != "puzzle":
        kind = {"vanilla": Mixer, "input": InputMixup, "manifold": ManifoldMixup, "cutmix": CutMix}[meta.method]
        return kind(num_classes=meta.num_classes)
    statistics = {"mean": meta.mean, "std": meta.std} if normalised else {}
    names = ("beta", "gamma", "eta", "neigh_size", "n_labels", "transport", "t_eps", "clean_lam")
    return PuzzleMix(
        num_classes=meta.num_classes,
        t_size=getattr(meta, "t_size", None),
        adv_eps=getattr(meta, "adv_eps", 10.0),
        solver="swap",
        **{name: getattr(meta, name) for name in names},
        **statistics,
    )


def given_of(step):
    """What the release drew in this step."""
    meta = step["meta"]
    if meta.method == "vanilla":
        return {}
    given = {"lam": meta.lam, "partner": step["permutation"]}
    if meta.method == "manifold":
        given["layer"] = meta.layer
    elif meta.method == "cutmix":
        given["centre"] = (meta.center_row, meta.center_col)
    elif meta.method == "puzzle":
        noisy = (bool(getattr(meta, "adv_mask1", 0)), bool(getattr(meta, "adv_mask2", 0)))
        given |= {"blocks": meta.block_num, "noisy": noisy}
        if any(noisy):
            given |= {"start_noise": step["start_noise"], "noise_scale": meta.adv_mix_coef}
    return given


@pytest.mark.parametrize("name", STEPS)
def test_step(name, golden):
    step = golden(name)
    meta = step["meta"]
    network = network_of(meta, weights_of(step, "before.")).train()
    optimizer = torch.optim.SGD(
        network.parameters(), meta.lr, meta.momentum, weight_decay=meta.weight_decay, nesterov=meta.nesterov
    )

    mixer = mixer_of(meta, normalised=False)
    mixed, targets = mixer(network, step["images"], step["labels"], **given_of(step))
    logits = network(mixed)
    loss = bce_on_softmax(logits, targets)  # the golden one is without the loss on the unmixed images
    mixer.loss(bce_on_softmax, logits, targets).backward()
    optimizer.step()

    if "mixed" in step:
        torch.testing.assert_close(network.normalize(mixed), step["mixed"], atol=1e-5, rtol=0)
    torch.testing.assert_close(targets, step["targets"], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(logits, step["logits"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(loss, step["loss"], atol=0, rtol=1e-4)
    before, after = weights_of(step, "before."), network.state_dict()
    for key, wanted in weights_of(step, "after.").items():
        error = (after[key] - wanted).double().norm()
        assert error <= 1e-4 * wanted.double().norm(), f"{key}: relative error {error / wanted.norm():.1e}"
        moved = (wanted - before[key]).double().norm()  # so that standing still would not pass
        assert error <= 2e-2 * moved + 1e-7, f"{key}: relative error of the update {error / moved:.1e}"


@pytest.mark.parametrize("name", [n for n in STEPS if "puzzle" in n])
def test_puzzle_mix_of_normalised_images_is_the_same(name, golden):
    """With mean and std given, the caller normalises and the model takes what it gets."""
    step = golden(name)
    meta = step["meta"]
    network = network_of(meta, weights_of(step, "before.")).train()
    images = network.normalize(step["images"])
    network.normalize = torch.nn.Identity()
    mixed, targets = mixer_of(meta, normalised=True)(network, images, step["labels"], **given_of(step))
    torch.testing.assert_close(mixed, step["mixed"], atol=1e-5, rtol=0)
    torch.testing.assert_close(targets, step["targets"], atol=1e-6, rtol=1e-4)
