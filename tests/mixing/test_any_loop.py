"""Mixing in loops that are not ours: accumulation, scalers, checkpoints, compilers, workers, outputs and labels."""

import pickle
import warnings
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader
from torchvision.tv_tensors import Image, Mask

from puzzlemix import CutMix, InputMixup, ManifoldMixup, PuzzleMix, puzzle_mix
from puzzlemix.mixing import PGDTraining, PuzzlePGD
from puzzlemix.mixing.base import warn_once
from puzzlemix.mixing.saliency import input_gradient, saliency_of
from puzzlemix.networks import preactresnet18
from puzzlemix.runtime.errors import InputError

K = 4
LABELS = torch.arange(4)
PARTNER = torch.tensor([1, 0, 3, 2])
GIVEN = {"lam": 0.5, "partner": PARTNER, "blocks": 2}


@pytest.fixture
def images():
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(768, K))


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = preactresnet18(K, initial_channels=4, mean=[0.5, 0.4, 0.3], std=[0.1, 0.2, 0.3])
    network(torch.rand(16, 3, 16, 16))  # batch norm statistics of its own
    return network


def mixed_by(mixer, model, images, labels=LABELS, **given):
    mixer.draws.seed(0, 0)
    return mixer(model, images, labels, **given)


def mixed_alike(mixer, models, images):
    """Whether all models give the same mixed images."""
    first, *others = (mixed_by(mixer, model, images)[0] for model in models)
    return all(torch.equal(first, other) for other in others)


# --- the loss of clean_lam follows whatever is done to the loss ---

CLEAN = {"num_classes": K, "clean_lam": 1.0, "loss": "soft_cross_entropy"}


def wanted_gradient(linear, images):
    """The gradient of the mixed and the clean loss together, by autograd alone."""
    mixed, targets = PuzzleMix(num_classes=K)(linear, images, LABELS, **GIVEN)
    loss = F.cross_entropy(linear(mixed), targets) + F.cross_entropy(linear(images), LABELS)
    return torch.autograd.grad(loss, linear[1].weight)[0]


@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize("is_own_loss", [False, True])
def test_clean_gradients_of_accumulated_batches_are_their_mean(linear, images, parts, is_own_loss):
    mix = PuzzleMix(**CLEAN)
    for _ in range(parts):
        mixed, targets = mix(linear, images, LABELS, **GIVEN)
        if is_own_loss:
            loss = F.cross_entropy(linear(mixed), targets) + mix.pop_clean_loss()
        else:
            loss = mix.loss(F.cross_entropy, linear(mixed), targets)
        (loss / parts).backward()
    torch.testing.assert_close(linear[1].weight.grad, wanted_gradient(linear, images))


@pytest.mark.parametrize("zeroed_after_mixing", [False, True])
def test_clean_gradients_survive_zero_grad_and_a_scaler(linear, images, zeroed_after_mixing):
    mix, optimizer, scaler = PuzzleMix(**CLEAN), torch.optim.SGD(linear.parameters()), torch.amp.GradScaler("cpu")
    mixed, targets = mix(linear, images, LABELS, **GIVEN)
    if zeroed_after_mixing:
        optimizer.zero_grad()
    scaler.scale(mix.loss(F.cross_entropy, linear(mixed), targets)).backward()
    scaler.unscale_(optimizer)
    torch.testing.assert_close(linear[1].weight.grad, wanted_gradient(linear, images))


def test_a_clean_loss_that_is_not_added_is_named_once(linear, images):
    warn_once.cache_clear()
    mix = PuzzleMix(**CLEAN)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            mix(linear, images, LABELS)
    assert [str(one.message) for one in caught] == [
        "the loss of clean_lam was not added to yours: use mix.loss(...), or add mix.pop_clean_loss()"
    ]
    assert caught[0].filename == __file__
    for copy in (deepcopy(mix), pickle.loads(pickle.dumps(mix))):
        assert copy.pop_clean_loss() == 0.0
    warn_once.cache_clear()


# --- what may surround or make up a model ---


class Checkpointed(nn.Module):
    """The network with activation checkpoints around its stages."""

    def __init__(self, network, use_reentrant):
        super().__init__()
        self.network, self.use_reentrant = network, use_reentrant

    def forward(self, images):
        network = self.network
        hidden = network.conv1(network.normalize(images))
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
            hidden = checkpoint(stage, hidden, use_reentrant=self.use_reentrant)
        return network.linear(hidden.mean((2, 3)))


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("method", [PuzzleMix, PuzzlePGD, PGDTraining])
def test_activation_checkpoints_change_nothing(network, images, use_reentrant, method):
    network.train()
    wanted, _ = mixed_by(method(num_classes=K), network, images)
    state = deepcopy(network.state_dict())
    found, _ = mixed_by(method(num_classes=K), Checkpointed(network, use_reentrant), images)
    assert torch.equal(found, wanted)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_cached_parametrised_weights_get_gradients(images):
    linear = nn.Sequential(nn.Flatten(), parametrizations.weight_norm(nn.Linear(768, K)))
    with parametrize.cached():
        mixed, targets = PuzzleMix(num_classes=K)(linear, images, LABELS)
        F.cross_entropy(linear(mixed), targets).backward()
    assert all(parameter.grad.any() for parameter in linear.parameters())


class Held(nn.Module):
    """A module that holds its network, as a LightningModule does."""

    def __init__(self, network):
        super().__init__()
        self.metric, self.net = nn.Identity(), network

    def forward(self, images):
        return self.net(images)


def test_a_network_inside_of_others_keeps_its_normalisation_and_its_stages(network, images):
    network.eval()
    models = network, AveragedModel(network), Held(network)
    saliency = [saliency_of(input_gradient(model, images, LABELS), model) for model in models]
    assert all(torch.equal(saliency[0], other) for other in saliency[1:])
    outputs = []
    for model in models:
        mixed, _ = mixed_by(ManifoldMixup(num_classes=K, layers=(2,)), model, images)
        outputs.append(model(mixed))
    assert not torch.equal(outputs[0], network(images))
    assert all(torch.equal(outputs[0], other) for other in outputs[1:])


@pytest.mark.slow
def test_a_compiled_step_is_the_eager_one(network, images):
    def step(mix, images):
        mixed, targets = mix(network, images, LABELS)
        alone = puzzle_mix(images, images.mean(1), PARTNER, lam=0.3, blocks=4)
        return mix.loss(F.cross_entropy, network(mixed), targets) + alone.images.mean()

    losses = []
    for run in (step, torch.compile(step)):
        mix = PuzzleMix(**CLEAN)
        mix.draws.seed(0, 0)
        losses.append(run(mix, images))
    torch.testing.assert_close(*losses)


@pytest.mark.slow
@pytest.mark.parametrize(("in_place", "passes"), [(True, 1), (False, 0)])
def test_only_a_model_that_is_compiled_in_place_has_a_compiled_saliency_pass(linear, images, in_place, passes):
    calls = []

    def backend(graph, inputs):
        return lambda *given: calls.append(graph) or graph(*given)

    wanted = mixed_by(PuzzleMix(num_classes=K), linear, images)[0]
    model = linear if in_place else torch.compile(linear, backend=backend)
    if in_place:
        linear.compile(backend=backend)
    assert torch.equal(mixed_by(PuzzleMix(num_classes=K), model, images)[0], wanted)
    assert len(calls) == passes
    model(images)
    assert len(calls) == passes + 1


class Output(dict):
    """Like an output of transformers: a dict whose entries are attributes."""

    __getattr__ = dict.__getitem__


@pytest.mark.parametrize(
    "wrap",
    [
        lambda scores: Output(loss=None, logits=scores),
        lambda scores: {"features": None, "logits": scores},
        lambda scores: SimpleNamespace(logits=scores, aux_logits=None),
        lambda scores: (scores, None),
        lambda scores: [scores],
    ],
)
@pytest.mark.parametrize("method", [PuzzleMix, PuzzlePGD, PGDTraining])
def test_scores_are_found_in_what_a_model_returns(linear, images, wrap, method):
    class Wrapping(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear

        def forward(self, images):
            return wrap(self.linear(images))

    wrapping, mix = Wrapping(), method(num_classes=K)
    assert mixed_alike(mix, (linear, wrapping), images)
    targets = torch.eye(K)
    assert torch.equal(mix.loss(F.cross_entropy, wrapping(images), targets), F.cross_entropy(linear(images), targets))


def test_functions_are_models(linear, images):
    weights = linear[1].weight
    assert mixed_alike(PuzzleMix(num_classes=K), (linear, lambda images: linear(images)), images)
    assert mixed_alike(PGDTraining(num_classes=K), (linear, lambda images: linear(images)), images)
    assert weights.grad is None


def test_forward_says_how_a_model_is_called(linear, images):
    class Odd(nn.Module):
        def forward(self, images, head):
            return {head: linear(images)}

    mix = PuzzleMix(num_classes=K, forward=lambda model, images: model(images, "top")["top"])
    assert torch.equal(mixed_by(mix, Odd(), images)[0], mixed_by(PuzzleMix(num_classes=K), linear, images)[0])
    mix = PuzzleMix(num_classes=K, forward=lambda model, images: model(images, "top"))
    with pytest.raises(InputError, match=r"return class scores \(B, K\), not dict: give forward=, which returns them"):
        mix(Odd(), images, LABELS)


# --- labels ---

METHODS = {"input": InputMixup, "cutmix": CutMix, "manifold": ManifoldMixup, "puzzle": PuzzleMix, "pgd": PGDTraining}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("labels", [torch.eye(K), torch.eye(K).half(), LABELS.int(), LABELS.to(torch.uint8)])
def test_classes_in_any_form_mix_alike(network, images, method, labels):
    wanted = mixed_by(METHODS[method](num_classes=K), network, images)
    found = mixed_by(METHODS[method](num_classes=K), network, images, labels)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_smoothed_labels_have_the_saliency_of_their_own_loss(linear, images):
    smooth = 0.9 * torch.eye(K) + 0.1 / K
    mixed, targets = PuzzleMix(num_classes=K)(linear, images, smooth, **GIVEN)
    leaf = images.clone().requires_grad_()
    F.cross_entropy(linear(leaf), smooth).backward()
    wanted = puzzle_mix(images, leaf.grad.square().mean(1).sqrt(), PARTNER, lam=0.5, blocks=2)
    torch.testing.assert_close(mixed, wanted.images)
    torch.testing.assert_close(targets, 0.5 * smooth + 0.5 * smooth[PARTNER])


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_several_labels_have_the_saliency_of_the_criterion(linear, images, reduction):
    several = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]).float()
    mix = PuzzleMix(num_classes=K, criterion=nn.BCEWithLogitsLoss(reduction=reduction))
    mixed, _ = mix(linear, images, several, **GIVEN)
    leaf = images.clone().requires_grad_()
    F.binary_cross_entropy_with_logits(linear(leaf), several).backward()
    wanted = puzzle_mix(images, leaf.grad.square().mean(1).sqrt(), PARTNER, lam=0.5, blocks=2)
    torch.testing.assert_close(mixed, wanted.images)


@pytest.mark.parametrize("labels", [torch.tensor([0, 1, 1, 0]), torch.tensor([0.0, 1.0, 1.0, 0.0])])
def test_a_model_of_one_score_is_binary(images, labels):
    binary = nn.Sequential(nn.Flatten(), nn.Linear(768, 1))
    mixed, targets = PuzzleMix(num_classes=1)(binary, images, labels, **GIVEN)
    leaf, column = images.clone().requires_grad_(), labels.float()[:, None]
    F.binary_cross_entropy_with_logits(binary(leaf), column).backward()
    wanted = puzzle_mix(images, leaf.grad.square().mean(1).sqrt(), PARTNER, lam=0.5, blocks=2)
    torch.testing.assert_close(mixed, wanted.images)
    torch.testing.assert_close(targets, 0.5 * column + 0.5 * column[PARTNER])


# --- images ---


def test_subclasses_of_tensors_become_plain(linear, images):
    mixed, targets = mixed_by(PuzzleMix(num_classes=K), linear, Image(images), Mask(LABELS))
    assert type(mixed) is type(targets) is torch.Tensor
    assert torch.equal(mixed, mixed_by(PuzzleMix(num_classes=K), linear, images)[0])


@pytest.mark.parametrize("method", ["input", "cutmix", "puzzle", "pgd"])
def test_a_video_is_mixed_as_its_frames_with_one_mask(method):
    videos = torch.rand(4, 3, 2, 16, 16)  # (B, C, T, H, W)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 2 * 256, K))
    mixed, _ = mixed_by(METHODS[method](num_classes=K), model, videos)
    frames = nn.Sequential(nn.Unflatten(1, (3, 2)), model)
    as_channels, _ = mixed_by(METHODS[method](num_classes=K), frames, videos.flatten(1, 2))
    torch.testing.assert_close(mixed.flatten(1, 2), as_channels)


def test_a_video_may_be_normalised_by_colour(images):
    videos, mean, std = torch.rand(4, 3, 2, 16, 16), [0.5, 0.4, 0.3], [0.1, 0.2, 0.3]
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 2 * 256, K))
    shape = torch.tensor(mean).view(3, 1, 1, 1), torch.tensor(std).view(3, 1, 1, 1)
    normalised = (videos - shape[0]) / shape[1]
    mixed, _ = PuzzleMix(num_classes=K, mean=mean, std=std)(model, normalised, LABELS, **GIVEN)
    saliency = saliency_of(input_gradient(model, normalised, LABELS), model)
    wanted = puzzle_mix(videos, saliency, PARTNER, lam=0.5, blocks=2).images
    torch.testing.assert_close(mixed * shape[1] + shape[0], wanted)


def test_erased_images_pass_with_one_warning(linear, images):
    mean, std = [0.5, 0.4, 0.3], [0.1, 0.2, 0.3]
    normalised = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    normalised[:, :, 4:8, 4:8] = 4 * torch.randn(4, 3, 4, 4).clamp(-1, 1)  # timm's RandomErasing, some deviations wide
    mix = PuzzleMix(num_classes=K, mean=mean, std=std)
    warn_once.cache_clear()
    with pytest.warns(UserWarning, match=r"images are pixels from .* to .* with this mean and std: are they erased"):
        mixed, _ = mix(linear, normalised, LABELS)
    assert mixed.isfinite().all()
    with pytest.raises(InputError, match="images must be pixels"):
        PuzzleMix(num_classes=K)(linear, normalised, LABELS)
    warn_once.cache_clear()


# --- draws ---


def test_mixers_side_by_side_draw_other_numbers(images):
    mixers = [InputMixup(num_classes=K) for _ in range(3)]
    assert len({mixer.draw(images, {})["lam"] for mixer in mixers}) == 3


class Mixing:
    """A collate_fn that mixes a batch, and gives its share and the place of its first image."""

    def __init__(self, mixer):
        self.mixer = mixer

    def __call__(self, places):
        self.mixer(lambda images: images, torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64))
        return places[0], self.mixer.last["lam"]


def shares(mixer, seed, persistent_workers=False):
    """The shares of two epochs with two workers, by batch."""
    torch.manual_seed(seed)
    loader = DataLoader(
        range(8), batch_size=2, num_workers=2, collate_fn=Mixing(mixer), persistent_workers=persistent_workers
    )
    return [dict(loader) for _ in range(2)]


@pytest.mark.parametrize("persistent_workers", [False, True])
def test_workers_draw_other_numbers_in_each_epoch(persistent_workers):
    mixer = InputMixup(num_classes=K)
    mixer.draws.seed(0, 0)
    first, second = shares(mixer, 1, persistent_workers)
    assert len({*first.values(), *second.values()}) == 8
    assert shares(mixer, 1, persistent_workers) == [first, second]
    assert shares(mixer, 2, persistent_workers) != [first, second]


def test_a_mixer_that_loads_a_state_goes_on_with_its_draws(linear, images):
    mix = PuzzleMix(num_classes=K)
    mix.epoch = 7
    mix(linear, images, LABELS)
    state = pickle.loads(pickle.dumps(mix.state_dict()))
    wanted = [mix(linear, images, LABELS)[0] for _ in range(3)]
    other = PuzzleMix(num_classes=K)
    other.load_state_dict(state)
    assert other.epoch == 7
    assert all(torch.equal(other(linear, images, LABELS)[0], mixed) for mixed in wanted)


# --- what was mixed comes back ---


@pytest.mark.parametrize("method", ["input", "cutmix", "manifold", "puzzle"])
def test_a_loss_of_two_terms_is_that_of_soft_targets(network, images, method):
    mix = METHODS[method](num_classes=K)
    mixed, targets = mix(network, images, LABELS)
    share, partner = torch.as_tensor(mix.last["share"]).float().expand(4), mix.last["partner"]
    logits = network(mixed)
    first, second = (F.cross_entropy(logits, labels, reduction="none") for labels in (LABELS, LABELS[partner]))
    torch.testing.assert_close((share * first + (1 - share) * second).mean(), F.cross_entropy(logits, targets))


@pytest.mark.parametrize("method", ["input", "cutmix", "puzzle"])
def test_other_values_are_mixed_as_the_images(network, images, method):
    mix = METHODS[method](num_classes=K)
    mixed, targets = mix(network, images, LABELS)
    torch.testing.assert_close(mix.mix_again(images), mixed)
    labels = LABELS.view(4, 1, 1, 1).expand(4, 1, 16, 16)
    masks = F.one_hot(labels[:, 0], K).permute(0, 3, 1, 2).float()  # (B, K, H, W), each image is of one class
    torch.testing.assert_close(mix.mix_again(masks).mean((2, 3)), targets)


def test_nothing_is_mixed_when_it_is_switched_off(linear, images):
    mix = PuzzleMix(num_classes=K, until_epoch=2)
    for mix.epoch, mix.enabled, is_mixed in ((0, True, True), (1, False, False), (1, True, True), (2, True, False)):
        mixed, targets = mix(linear, images, LABELS, **GIVEN)
        assert bool(mix.last) is is_mixed
        assert torch.equal(mixed, images) is not is_mixed
        assert torch.equal(targets, torch.eye(K)) is not is_mixed
        assert torch.equal(mix.mix_again(images), mixed) or is_mixed


def test_a_mixer_shows_its_settings():
    shown = repr(PuzzleMix(num_classes=K, blocks=4, beta=0.8))
    assert shown.startswith("PuzzleMix(num_classes=4, ")
    assert "beta=0.8" in shown
    assert "blocks=((4, 4),)" in shown
    assert "draws" not in shown
