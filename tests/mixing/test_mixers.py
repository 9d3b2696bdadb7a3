"""The contract that all methods share, and each method against a loop over samples."""

import random

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from puzzlemix import (
    AugmentedPuzzleMix,
    AugMix,
    CutMix,
    InputMixup,
    ManifoldMixup,
    Mixer,
    PGDTraining,
    PuzzleMix,
    PuzzlePGD,
)
from puzzlemix.mixing.puzzle import puzzle_mix
from puzzlemix.networks import preactresnet18
from puzzlemix.runtime.errors import InputError

K = 5
METHODS = {"vanilla": Mixer, "input": InputMixup, "manifold": ManifoldMixup, "cutmix": CutMix, "puzzle": PuzzleMix}
WITH_MORE = {**METHODS, "augmix": AugMix, "puzzle_aug": AugmentedPuzzleMix, "pgd": PGDTraining, "puzzle_pgd": PuzzlePGD}
IN_0_TO_1 = ("augmix", "puzzle_aug", "pgd", "puzzle_pgd")  # they augment or attack
MIXING = [name for name in METHODS if name != "vanilla"]
# Enough to repeat a method's mixing; CutMix's box lies within the image.
GIVEN = {"input": {}, "manifold": {"layer": 0}, "cutmix": {"centre": (7.6, 8.3)}, "puzzle": {"blocks": 4}}
DRAWS_NOISE = {"puzzle": {"adv_p": 1.0}}  # so that all of a method's draws are made
PARTNER = torch.tensor([2, 0, 1, 5, 3, 4])

methods = pytest.mark.parametrize("method", METHODS)
mixing_methods = pytest.mark.parametrize("method", MIXING)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def network():
    return preactresnet18(K, initial_channels=2, mean=[0.5] * 3, std=[0.25] * 3)


@pytest.fixture
def images():
    return torch.rand(6, 3, 16, 16)


@pytest.fixture
def labels():
    return torch.arange(6) % K


def one_hot(labels):
    return torch.eye(K)[labels]


def weighed(labels, partner, shares):
    """Targets as a loop: `shares` of each image to its own label, the rest to its partner's."""
    targets = torch.zeros(len(labels), K)
    for i, share in enumerate(shares):
        targets[i, labels[i]] += share
        targets[i, labels[partner[i]]] += 1 - share
    return targets


# --- each method, sample by sample ---


def test_vanilla_gives_images_and_one_hot_targets(network, images, labels):
    mixed, targets = Mixer(num_classes=K)(network, images, labels)
    assert torch.equal(mixed, images)
    assert torch.equal(targets, one_hot(labels))


def test_input_mixup_is_a_weighted_mean_of_pixels(network, images, labels):
    mixed, targets = InputMixup(num_classes=K)(network, images, labels, lam=0.3, partner=PARTNER)
    for i in range(6):
        torch.testing.assert_close(mixed[i], 0.3 * images[i] + 0.7 * images[PARTNER[i]])
    torch.testing.assert_close(targets, weighed(labels, PARTNER, [0.3] * 6))


@pytest.mark.parametrize("side", [6, 16])  # as many pixels as images, along which shares must not go
@pytest.mark.parametrize("mixer", [InputMixup(num_classes=K), ManifoldMixup(num_classes=K, layers=(0,))])
def test_a_share_of_each_image_mixes_each_by_its_own(network, labels, mixer, side):
    images, lam = torch.rand(6, 3, side, side), torch.rand(6, dtype=torch.float64)
    mixed, targets = mixer(network, images, labels, lam=lam, partner=PARTNER)
    for i in range(6):
        share = float(lam[i])
        torch.testing.assert_close(mixed[i], share * images[i] + (1 - share) * images[PARTNER[i]])
    torch.testing.assert_close(targets, weighed(labels, PARTNER, lam))
    assert mixed.dtype == targets.dtype == torch.float32


@pytest.mark.parametrize("centre", [(8.4, 7.7), (0.2, 15.9), (13.0, 2.5)])
@pytest.mark.parametrize("lam", [0.05, 0.5, 0.8])
def test_cutmix_pastes_the_partners_box(network, labels, lam, centre):
    images = torch.rand(6, 3, 16, 20)
    mixed, targets = CutMix(num_classes=K)(network, images, labels, lam=lam, partner=PARTNER, centre=centre)
    half_height, half_width = 16 * (1 - lam) ** 0.5 / 2, 20 * (1 - lam) ** 0.5 / 2
    top, bottom = max(int(centre[0] - half_height), 0), min(int(centre[0] + half_height), 16)
    left, right = max(int(centre[1] - half_width), 0), min(int(centre[1] + half_width), 20)
    kept = 0
    for y in range(16):
        for x in range(20):
            inside = top <= y < bottom and left <= x < right
            kept += not inside
            for i in range(6):
                assert torch.equal(mixed[i, :, y, x], images[PARTNER[i] if inside else i, :, y, x])
    torch.testing.assert_close(targets, weighed(labels, PARTNER, [kept / 320] * 6))


def test_cutmix_box_within_the_image_has_the_wanted_area(network, labels):
    images = torch.rand(6, 3, 200, 300)
    _, targets = CutMix(num_classes=K)(network, images, labels, lam=0.64, partner=PARTNER, centre=(100, 150))
    assert targets[0, labels[0]] == pytest.approx(0.64, abs=0.01)


@pytest.mark.parametrize("layer", [0, 1, 2, 4])
def test_manifold_mixup_mixes_the_hidden_states_of_that_layer(network, images, labels, layer):
    network.eval()
    fed, targets = ManifoldMixup(num_classes=K)(network, images, labels, lam=0.3, partner=PARTNER, layer=layer)
    logits = network(fed)

    def stages(x, numbers):
        for number in numbers:
            x = getattr(network, f"layer{number}")(x)
        return x

    for i in range(6):
        first, second = images[i : i + 1], images[PARTNER[i]][None]
        if layer == 0:
            hidden = stages(network.conv1(network.normalize(0.3 * first + 0.7 * second)), range(1, 5))
        else:
            before = [stages(network.conv1(network.normalize(x)), range(1, layer + 1)) for x in (first, second)]
            hidden = stages(0.3 * before[0] + 0.7 * before[1], range(layer + 1, 5))
        torch.testing.assert_close(logits[i : i + 1], network.linear(hidden.mean((2, 3))))
    torch.testing.assert_close(targets, weighed(labels, PARTNER, [0.3] * 6))


def test_puzzle_mix_of_a_batch_is_that_of_each_pair_alone(network, images, labels):
    mixed, targets = PuzzleMix(num_classes=K, t_size=2)(network, images, labels, lam=0.4, partner=PARTNER, blocks=4)
    shares = []
    network.eval()
    for i in range(6):
        pair = torch.stack([images[i], images[PARTNER[i]]]).requires_grad_()
        loss = torch.nn.functional.cross_entropy(network(pair), labels[[i, int(PARTNER[i])]], reduction="sum")
        saliency = torch.autograd.grad(loss, pair)[0].square().mean(1).sqrt()
        alone = puzzle_mix(pair.detach(), saliency, torch.tensor([1, 0]), lam=0.4, blocks=4, t_size=2)
        torch.testing.assert_close(mixed[i], alone.images[0])
        shares.append(alone.share[0])
    torch.testing.assert_close(targets, weighed(labels, PARTNER, shares))
    assert len(set(map(float, shares))) > 1


# --- the share ---


@mixing_methods
def test_lam_one_keeps_the_images(method, network, images, labels):
    mixer = METHODS[method](num_classes=K)
    mixed, targets = mixer(network, images, labels, lam=1.0, partner=PARTNER, **GIVEN[method])
    torch.testing.assert_close(mixed, images)
    torch.testing.assert_close(targets, one_hot(labels))


@mixing_methods
def test_lam_zero_takes_the_partners(method, network, images, labels):
    mixer = METHODS[method](num_classes=K)
    given = {"centre": (8, 8)} if method == "cutmix" else GIVEN[method]  # the box is the whole image
    mixed, targets = mixer(network, images, labels, lam=0.0, partner=PARTNER, **given)
    torch.testing.assert_close(mixed, images[PARTNER])
    torch.testing.assert_close(targets, one_hot(labels[PARTNER]))


@mixing_methods
@pytest.mark.parametrize("lam", [0.15, 0.6, 0.9])
def test_targets_weigh_the_labels_as_the_pixels_are_mixed(method, network, lam):
    """With images of a single colour, the mixed mean gives the share."""
    colour = torch.linspace(0, 1, 6)
    images = colour.view(-1, 1, 1, 1).expand(-1, 3, 16, 16)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    mixer = METHODS[method](num_classes=K)
    mixed, targets = mixer(network, images, labels, lam=lam, partner=PARTNER, **GIVEN[method])
    share = (mixed.mean((1, 2, 3)) - colour[PARTNER]) / (colour - colour[PARTNER])
    torch.testing.assert_close(targets, weighed(labels, PARTNER, share), atol=1e-5, rtol=0)
    assert share.mean() == pytest.approx(lam, abs=0.25)


@methods
def test_targets_are_float32_shares(method, network, images, labels):
    mixer = METHODS[method](num_classes=K)
    for _ in range(10):
        mixed, targets = mixer(network, images, labels)
        assert mixed.shape == images.shape
        assert mixed.dtype == targets.dtype == torch.float32
        assert targets.min() >= 0
        torch.testing.assert_close(targets.sum(1), torch.ones(6))


# --- what is drawn ---


@mixing_methods
def test_prob_zero_never_mixes(method, network, images, labels):
    mixer = METHODS[method](num_classes=K, prob=0)
    for _ in range(20):
        mixed, targets = mixer(network, images, labels)
        assert torch.equal(mixed, images)
        assert torch.equal(targets, one_hot(labels))


def test_prob_is_how_often_a_batch_is_mixed(network, images, labels):
    mixer = InputMixup(num_classes=K, prob=0.3)
    given = {"lam": 0.5, "partner": PARTNER}
    mixed = sum(not torch.equal(mixer(network, images, labels, **given)[0], images) for _ in range(2000))
    assert mixed / 2000 == pytest.approx(0.3, abs=0.04)  # four standard deviations


def drawn_by(mixer, images, batches=4000):
    return [mixer.draw(images, {}) for _ in range(batches)]


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_lam_follows_beta_of_alpha_and_alpha(images, alpha):
    lams = np.array([drawn["lam"] for drawn in drawn_by(InputMixup(alpha, num_classes=K), images)])
    assert lams.mean() == pytest.approx(0.5, abs=0.03)
    assert lams.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.08)


def test_partners_are_permutations_in_which_every_pair_is_as_likely(images):
    partners = torch.stack([drawn["partner"] for drawn in drawn_by(InputMixup(num_classes=K), images)])
    assert torch.equal(partners.sort(1).values, torch.arange(6).expand(4000, -1))
    frequency = torch.stack([(partners == j).double().mean(0) for j in range(6)])
    torch.testing.assert_close(frequency, torch.full_like(frequency, 1 / 6), atol=0.03, rtol=0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.eye(4), r"labels must have shape \(4, 10\), not \(4, 4\)"),
        (torch.rand(4), r"labels must be whole numbers \(B,\), or shares \(B, K\), not torch.float32\[4\]"),
        ([0, 1, 2, 3], r"labels must be a tensor, not list"),
        (torch.tensor([0, 1]), r"labels must have shape \(4,\), not \(2,\)"),
        (torch.tensor([0, 1, 2, 100]), r"labels, with num_classes=10, must lie in \[0, 9\], not from 0 to 100"),
    ],
)
def test_labels_that_are_no_classes_are_named(labels, message):
    with pytest.raises(InputError, match=message):
        Mixer(num_classes=10)(torch.nn.Identity(), torch.rand(4, 3, 8, 8), labels)


def test_layers_and_blocks_are_drawn_evenly_from_those_named(images):
    layers = [drawn["layer"] for drawn in drawn_by(ManifoldMixup(layers=(0, 2), num_classes=K), images)]
    blocks = [drawn["blocks"] for drawn in drawn_by(PuzzleMix(blocks=((2, 2), (4, 8)), num_classes=K), images)]
    assert set(layers) == {0, 2}
    assert set(blocks) == {(2, 2), (4, 8)}
    assert layers.count(0) / 4000 == pytest.approx(0.5, abs=0.03)
    assert blocks.count((2, 2)) / 4000 == pytest.approx(0.5, abs=0.03)


def test_cutmix_centres_lie_evenly_over_the_image():
    rows, columns = np.array([d["centre"] for d in drawn_by(CutMix(num_classes=K), torch.rand(2, 3, 8, 32))]).T
    for centre, length in ((rows, 8), (columns, 32)):
        assert centre.min() >= 0
        assert centre.max() < length
        share, _ = np.histogram(centre / length, bins=4, range=(0, 1))
        assert share / 4000 == pytest.approx([0.25] * 4, abs=0.03)


@mixing_methods
def test_torch_manual_seed_makes_draws_repeatable(method, network, images, labels):
    def three_batches(seed):
        torch.manual_seed(seed)
        mixer = METHODS[method](num_classes=K)
        return torch.stack([mixer(network, images, labels)[1] for _ in range(3)])

    first = three_batches(1)
    torch.rand(7)
    assert torch.equal(three_batches(1), first)
    assert not torch.equal(three_batches(2), first)
    assert not torch.equal(first[0], first[1])


@mixing_methods
def test_draws_seed_starts_the_same_stream_again(method, images):
    def three_draws(*entropy):
        mixer.draws.seed(*entropy)
        return [{k: str(v) for k, v in mixer.draw(images, {}).items()} for _ in range(3)]

    mixer = METHODS[method](num_classes=K, **DRAWS_NOISE.get(method, {}))
    first = three_draws(0, 5)
    assert three_draws(0, 5) == first
    for other in ((1, 5), (0, 6)):
        again = three_draws(*other)
        assert all(a["lam"] != b["lam"] for a, b in zip(again, first, strict=True))


@pytest.mark.parametrize("method", WITH_MORE)
def test_mixing_leaves_the_callers_random_states(method, network, images, labels):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    mixer = WITH_MORE[method](num_classes=K, **DRAWS_NOISE.get(method, {}))
    for _ in range(3):
        mixer(network, images, labels)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


@pytest.mark.parametrize("method", WITH_MORE)
def test_nothing_is_changed_in_place(method, network, images, labels):
    given = {"images": images, "labels": labels, "partner": PARTNER.clone(), **network.state_dict()}
    before = {name: value.clone() for name, value in given.items()}
    partner = {"partner": given["partner"]} if method in MIXING else {}
    mixed, targets = WITH_MORE[method](num_classes=K)(network, images, labels, **partner)
    for name, value in before.items():
        assert torch.equal(given[name], value), name
    assert not mixed.requires_grad
    assert not targets.requires_grad


# --- manifold mixup's hook ---


def test_manifold_hook_mixes_one_forward_and_is_gone(network, images, labels):
    network.eval()
    plain = network(images)
    ManifoldMixup(num_classes=K)(network, images, labels, lam=0.5, partner=PARTNER, layer=2)
    first, second = network(images), network(images)
    assert not torch.allclose(first, plain)
    assert torch.equal(second, plain)
    assert not any(module._forward_hooks for module in network.modules())


def test_manifold_mixup_without_the_stage_is_an_error(network, images, labels):
    with pytest.raises(InputError, match=r"'layer7'.*change its layers"):
        ManifoldMixup(layers=(7,), num_classes=K)(network, images, labels)
    ManifoldMixup(num_classes=K).check(network, 32, 32)
    with pytest.raises(InputError, match=r"'layer7'.*change its layers"):
        ManifoldMixup(layers=(0, 7), num_classes=K).check(network, 32, 32)


# --- what cannot work ---


@mixing_methods
def test_a_batch_of_one_has_no_partner_and_stays_as_it_is(method, network, images, labels):
    """The last batch of an epoch may be one image."""
    mixed, targets = METHODS[method](num_classes=K)(network, images[:1], labels[:1])
    assert torch.equal(mixed, images[:1])
    assert torch.equal(targets, one_hot(labels[:1]))
    assert torch.equal(network(mixed), network(images[:1]))


def test_a_batch_of_one_draws_what_others_draw(network, images, labels):
    """One of several processes may have it, and all share one lambda."""
    drawn = []
    for size in (1, 4):
        mixer = CutMix(num_classes=K, prob=0.5)
        mixer.draws.seed(0)
        mixer(network, images[:size], labels[:size])
        drawn.append([mixer.draws.coin(0.5) for _ in range(30)])
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("method", "unknown", "meant"),
    [("input", "lamb", "lam"), ("cutmix", "center", "centre"), ("manifold", "layers", "layer")],
)
def test_unknown_keyword_names_the_nearest(method, unknown, meant, network, images, labels):
    with pytest.raises(InputError, match=f"'{unknown}'.*'{meant}'"):
        METHODS[method](num_classes=K)(network, images, labels, **{unknown: 0.5})


@pytest.mark.parametrize(
    ("method", "bad"),
    [
        *((method, {"num_classes": 0}) for method in METHODS),
        *((method, {"prob": value}) for method in METHODS for value in (-0.1, 1.1, float("nan"), None, "1")),
        *((method, {"alpha": value}) for method in MIXING for value in (0, -1, float("nan"))),
        ("manifold", {"layers": ()}),
        ("manifold", {"layers": (0, -1)}),
    ],
)
def test_bad_parameter_is_named(method, bad):
    with pytest.raises(ValueError, match=next(iter(bad))) as caught:
        METHODS[method](**{"num_classes": K, **bad})
    assert caught.type is InputError


@pytest.mark.parametrize("mixer", [InputMixup, ManifoldMixup, CutMix, PuzzleMix])
@pytest.mark.parametrize("lam", [-0.1, 1.5])
def test_a_share_outside_0_to_1_is_refused(mixer, lam):
    images, labels = torch.rand(4, 3, 16, 16), torch.arange(4)
    with pytest.raises(ValueError, match=r"lam must be a number, in \[0, 1\]"):
        mixer(num_classes=4)(torch.nn.Flatten(), images, labels, lam=lam)


@mixing_methods
@pytest.mark.parametrize("partner", [PARTNER[:1], PARTNER + 1, PARTNER - 1, PARTNER.float(), PARTNER.tolist()])
def test_partners_that_are_not_in_the_batch_are_refused(method, network, images, labels, partner):
    with pytest.raises(InputError, match="partner must"):
        METHODS[method](num_classes=K)(network, images, labels, partner=partner)


@pytest.mark.parametrize("method", ["vanilla", "augmix"])
def test_a_method_without_pairs_takes_no_share_and_no_partner(method, network, images, labels):
    for given in ({"lam": 0.5}, {"partner": PARTNER}):
        with pytest.raises(InputError, match=f"unknown argument '{next(iter(given))}'; valid: none"):
            WITH_MORE[method](num_classes=K)(network, images, labels, **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lam": torch.full((6,), 0.5)}, "CutMix cuts one box per batch: give lam as a number"),
        ({"centre": 8}, "centre must be row and column"),
        ({"centre": (8, -1)}, "the centre's column must be a number, in"),
        ({"centre": (17, 8)}, "the centre's row must be a number, in"),
    ],
)
def test_a_box_that_cannot_be_cut_is_refused(network, images, labels, given, message):
    with pytest.raises(InputError, match=message):
        CutMix(num_classes=K)(network, images, labels, **given)


NOT_FINITE = "find the step that makes some of them NaN or infinite"


@pytest.mark.parametrize("method", WITH_MORE)
@pytest.mark.parametrize(
    ("spoil", "remedy"),
    [
        (lambda images: images.where(images < images.max(), torch.nan), f"from nan to nan: {NOT_FINITE}"),
        (lambda images: images.where(images < images.max(), torch.inf), f"to inf: {NOT_FINITE}"),
        (lambda images: images.where(images > images.min(), -torch.inf), f"from -inf .*: {NOT_FINITE}"),
        (lambda images: 255 * images, "to 25[45].*: divide them by 255"),
        (lambda images: (255 * images).to(torch.uint8), "not torch.uint8: images.float.. / 255 are pixels"),
        (
            lambda images: 4 * images - 2,
            "from -2 to 2: normalise inside the network, or give PuzzleMix",
        ),
    ],
)
def test_images_that_are_no_pixels_are_named_with_what_to_do(method, images, labels, spoil, remedy):
    mixer = WITH_MORE[method](num_classes=K)
    for _ in range(2):
        with pytest.raises(InputError, match=f"images must be .*{remedy}"):
            mixer(None, spoil(images), labels)


@pytest.mark.parametrize("method", WITH_MORE)
def test_pixels_that_resizing_overshot_pass_where_they_can(method, network, images, labels):
    mixer = WITH_MORE[method](num_classes=K)
    if method in IN_0_TO_1:
        with pytest.raises(InputError, match=r"from -0\..* to 1\..*: clamp them, since resizing can leave"):
            mixer(network, 1.2 * images - 0.1, labels)
    else:
        assert mixer(network, 1.2 * images - 0.1, labels)[0].isfinite().all()


class Looks(TorchDispatchMode):
    """Counts how often the extremes of the images are computed."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        extremes = function.overloadpacket in (torch.ops.aten.aminmax, torch.ops.aten.min, torch.ops.aten.max)
        self.count += extremes and arguments[0].shape == (6, 3, 16, 16)
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("method", WITH_MORE)
def test_pixels_are_looked_at_once_a_batch(method, network, images, labels):
    mixer = WITH_MORE[method](num_classes=K)
    for _ in range(2):
        with Looks() as looks:
            mixer(network, images, labels)
        assert looks.count == 1


@pytest.mark.parametrize("method", METHODS)
def test_values_on_a_gpu_are_looked_at_until_a_batch_has_passed(method, images, labels, monkeypatch):
    """With fake tensors on a GPU, where reading a value is an error."""
    mixer = METHODS[method](num_classes=K, prob=0)

    def is_waited_for():
        try:
            with FakeTensorMode():
                mixer(None, torch.rand(6, 3, 16, 16, device="cuda"), torch.zeros(6, dtype=torch.int64, device="cuda"))
        except DataDependentOutputException:
            return True
        return False

    with pytest.raises(InputError):
        mixer(None, 255 * images, labels)
    assert is_waited_for()
    mixer(None, images, labels)
    assert not is_waited_for()
    monkeypatch.setenv("PUZZLEMIX_DEBUG", "1")
    assert is_waited_for()


@pytest.mark.parametrize("method", METHODS)
def test_an_image_that_is_no_batch_is_named_before_its_label(method):
    with pytest.raises(InputError, match=r"images must have shape \(B, C, H, W\), not \(3, 16, 16\)"):
        METHODS[method](num_classes=4)(torch.nn.Flatten(), torch.rand(3, 16, 16), torch.tensor([1]))


def test_a_single_number_of_blocks_is_always_drawn(images):
    mixer = PuzzleMix(num_classes=4, blocks=4)
    assert {mixer.draw(images, {})["blocks"] for _ in range(20)} == {(4, 4)}


@pytest.mark.parametrize("blocks", [{2, 4}, [2, 4], np.array([2, 4]), range(2, 5, 2)])
def test_blocks_are_drawn_from_any_collection(images, blocks):
    mixer = PuzzleMix(num_classes=4, blocks=blocks)
    assert {mixer.draw(images, {})["blocks"] for _ in range(40)} == {(2, 2), (4, 4)}


@pytest.mark.parametrize("blocks", [(), "4", None, 0, (2, -2), (2.5,)])
def test_puzzle_mix_names_blocks_that_are_neither_a_number_nor_several(blocks):
    with pytest.raises(ValueError, match="blocks must be a number"):
        PuzzleMix(num_classes=4, blocks=blocks)


def test_manifold_mixup_forgets_a_batch_that_no_forward_pass_followed():
    network = torch.nn.Sequential()
    network.layer1 = torch.nn.Identity()
    mixer = ManifoldMixup(num_classes=4)
    images, labels, partner = torch.rand(4, 3, 8, 8), torch.arange(4), torch.tensor([1, 2, 3, 0])
    for _ in range(3):
        mixer(network, images, labels, lam=0.25, partner=partner, layer=1)
    torch.testing.assert_close(network.layer1(images), 0.25 * images + 0.75 * images[partner])
    assert torch.equal(network.layer1(images), images)
