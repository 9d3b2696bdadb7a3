"""Puzzle Mix as a whole: on images that the release cannot take, with bad saliency, and its effect on the model."""

import pickle
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_blocks import cells
from test_costs import plain_costs
from test_graphcut import all_masks, energies
from test_transport import plain_plan
from torch import nn
from torchvision.transforms import v2

from puzzlemix import PuzzleMix
from puzzlemix.mixing.costs import MaskCosts
from puzzlemix.mixing.puzzle import puzzle_mix
from puzzlemix.mixing.saliency import input_gradient, saliency_of
from puzzlemix.networks import preactresnet18
from puzzlemix.runtime.errors import InputError

K = 5
MEAN, STD = [0.5, 0.4, 0.3], [0.3, 0.2, 0.1]
PARTNER = torch.tensor([1, 2, 3, 0])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def network():
    network = preactresnet18(K, initial_channels=2, mean=MEAN, std=STD)
    network(torch.rand(8, 3, 16, 16))  # batch norm statistics of its own
    return network


@pytest.fixture
def images():
    return torch.rand(4, 3, 16, 16)


@pytest.fixture
def labels():
    return torch.tensor([0, 1, 2, 4])


def plain_gradient(network, images, labels):
    """Gradient of the cross-entropy with respect to the images; the network stays as it was."""
    images = images.clone().requires_grad_()
    F.cross_entropy(deepcopy(network).eval()(images), labels).backward()
    return images.grad


# --- the whole computation, on what the release cannot take ---

# Channels, size, blocks, m, t_size and the grid on which blocks then move.
CASES = [
    (1, (12, 12), (2, 2), 5, 3, (4, 4)),
    (4, (10, 15), (2, 4), 3, None, (2, 4)),
    (3, (17, 20), (3, 2), 4, 4, (3, 4)),
    (2, (16, 8), (1, 4), 5, 2, (8, 4)),
]
cases = pytest.mark.parametrize(("channels", "size", "grid", "n_labels", "t_size", "fine"), CASES)
LAM, BETA, GAMMA, ETA, NEIGH_SIZE, T_EPS = 0.5, 3.0, 0.5, 0.01, 2, 0.01


def solved(channels, size, grid, n_labels, t_size):
    """Images, saliency with sharp peaks, and their puzzle."""
    images = torch.rand(4, channels, *size, dtype=torch.float64)
    saliency = torch.rand(4, *size, dtype=torch.float64) ** 50
    options = {"beta": BETA, "gamma": GAMMA, "eta": ETA, "neigh_size": NEIGH_SIZE, "t_eps": T_EPS}
    puzzle = puzzle_mix(images, saliency, PARTNER, lam=LAM, blocks=grid, n_labels=n_labels, t_size=t_size, **options)
    return images, saliency, puzzle


def plain_shares(saliency, grid):
    means = torch.stack([saliency[y, x].mean() for y, x in cells(saliency.shape, grid)])
    return (means / means.sum()).view(grid)


@cases
def test_masks_have_the_lowest_energy(channels, size, grid, n_labels, t_size, fine):
    images, saliency, puzzle = solved(channels, size, grid, n_labels, t_size)
    for b in range(4):
        shares = [plain_shares(saliency[i], grid) for i in (b, PARTNER[b])]
        costs = plain_costs(images[b], images[PARTNER[b]], *shares, BETA, GAMMA, NEIGH_SIZE)
        costs = MaskCosts(*(c[None] for c in costs))
        found = energies(costs, puzzle.mask[b : b + 1], LAM, n_labels, ETA)
        lowest = energies(costs, all_masks(grid, n_labels), LAM, n_labels, ETA).min()
        torch.testing.assert_close(found[0, 0], lowest)


def plain_transport(image, saliency, mask, fine):
    """An image (C, H, W) with its cells moved by the auction; `mask` is above 0 where it shows."""
    centres = [[int((k + 0.5) * n / to) for k in range(to)] for n, to in zip(mask.shape, fine, strict=True)]
    visible = mask[centres[0]][:, centres[1]] > 0
    winners, _ = plain_plan(plain_shares(saliency, fine), visible, T_EPS)
    slices, moved = cells(image.shape[1:], fine), image.clone()
    for target, source in enumerate(winners):
        (to_y, to_x), (from_y, from_x) = slices[target], slices[target if source is None else source]
        for y in range(to_y.start, to_y.stop):
            for x in range(to_x.start, to_x.stop):
                sy = min(from_y.start + y - to_y.start, from_y.stop - 1)
                sx = min(from_x.start + x - to_x.start, from_x.stop - 1)
                moved[:, y, x] = image[:, sy, sx]
    return moved


@cases
def test_given_the_masks_images_move_and_mix_as_in_plain_loops(channels, size, grid, n_labels, t_size, fine):
    images, saliency, puzzle = solved(channels, size, grid, n_labels, t_size)
    moves = 0
    for b in range(4):
        mask, partner = puzzle.mask[b], PARTNER[b]
        first = plain_transport(images[b], saliency[b], mask, fine)
        second = plain_transport(images[partner], saliency[partner], 1 - mask, fine)
        z = torch.full(size, torch.nan, dtype=torch.float64)
        for cell, (y, x) in enumerate(cells(size, grid)):
            z[y, x] = mask.flatten()[cell]
        torch.testing.assert_close(puzzle.images[b], z * first + (1 - z) * second)
        torch.testing.assert_close(puzzle.share[b], z.mean())
        moves += not torch.equal(first, images[b]) or not torch.equal(second, images[partner])
    assert moves > 0


def test_without_transport_images_are_mixed_in_place(images):
    puzzle = puzzle_mix(images, torch.rand(4, 16, 16), PARTNER, lam=0.5, blocks=4, transport=False)
    z = puzzle.mask.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    torch.testing.assert_close(puzzle.images, z * images + (1 - z) * images[PARTNER])
    assert puzzle.sources is None


# --- unusable saliency ---


@pytest.mark.parametrize("value", [0.0, torch.nan, torch.inf])
def test_an_image_of_unusable_saliency_is_mixed_as_if_uniform(images, value):
    saliency, mended = torch.rand(2, 1, 16, 16).expand(2, 4, 16, 16).clone()
    saliency[2], mended[2] = value, 1.0
    saliency[[0, 1, 3]] = mended[[0, 1, 3]]
    options = {"partner": PARTNER, "lam": 0.5, "blocks": 4, "t_size": 2}
    puzzle, wanted = puzzle_mix(images, saliency, **options), puzzle_mix(images, mended, **options)
    assert puzzle.uniform.tolist() == [False, False, True, False]
    torch.testing.assert_close(puzzle.images, wanted.images)
    torch.testing.assert_close(puzzle.share, wanted.share)


class Root(nn.Module):
    """Square root, infinitely steep at black pixels."""

    def forward(self, x):
        return x.sqrt()


@pytest.mark.parametrize(
    "first_layer",
    [
        nn.Sequential(nn.Threshold(0.0, 0.0), nn.Conv2d(3, 2, 3)),  # no gradient at black
        nn.Sequential(Root(), nn.Conv2d(3, 2, 3)),
    ],
    ids=["zero", "infinite"],
)
def test_images_of_unusable_saliency_are_counted_until_asked(images, labels, first_layer):
    network = nn.Sequential(first_layer, nn.Flatten(), nn.Linear(2 * 14 * 14, K))
    images[1] = 0
    mixer = PuzzleMix(num_classes=K, blocks=(4,))
    for _ in range(3):
        mixed, targets = mixer(network, images, labels)
        assert mixed.isfinite().all()
        assert targets.isfinite().all()
    assert mixer.pop_counts() == {"uniform_saliency": 3}
    mixer(network, images[[0, 2, 3]], labels[:3])
    assert mixer.pop_counts() == {"uniform_saliency": 0}


# --- a lambda for each image ---


@pytest.mark.parametrize("solver", ["exact", "swap"])
@pytest.mark.parametrize("blocks", [4, (1, 3)])
def test_a_lambda_for_each_image_mixes_as_a_loop_over_single_images(images, blocks, solver):
    saliency, lam = torch.rand(4, 16, 16), [0.1, 0.9, 0.4, 0.6]
    options = {"blocks": blocks, "t_eps": 0.01, "solver": solver}
    together = puzzle_mix(images, saliency, PARTNER, lam=torch.tensor(lam), **options)
    for b in range(4):
        pair = torch.stack([torch.tensor(b), PARTNER[b]])
        alone = puzzle_mix(images[pair], saliency[pair], torch.tensor([1, 0]), lam=lam[b], **options)
        assert torch.equal(together.mask[b], alone.mask[0])
        assert torch.equal(together.sources[:, b], alone.sources[:, 0])
        torch.testing.assert_close(together.images[b], alone.images[0])
        torch.testing.assert_close(together.share[b], alone.share[0])
    assert len(together.share.unique()) > 2


def test_per_sample_draws_differ_within_a_batch_and_mix_to_their_shares(network, images, labels):
    mixer = PuzzleMix(num_classes=K, per_sample=True, blocks=(2, (4, 1)))
    drawn = mixer.draw(images.repeat(50, 1, 1, 1), {})
    assert len(drawn["lam"].unique()) == 200
    assert drawn["lam"].mean() == pytest.approx(0.5, abs=0.1)
    assert drawn["blocks"] in mixer.blocks
    mixed, targets = mixer(network, images, labels)
    assert mixed.shape == images.shape
    torch.testing.assert_close(targets.sum(1), torch.ones(4))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            {"lam": torch.tensor([0.5, 0.5])},
            r"lam, as a tensor, must have shape \(4,\), not \(2,\)",
        ),
        ({"lam": torch.tensor([0.5, 0.5, 0.5, 1.5])}, r"lam must lie in \[0, 1\], not from 0.5 to 1.5"),
        ({"lam": torch.tensor([0.5, 0.5, -1, torch.nan])}, r"lam must lie in \[0, 1\], not from nan to nan"),
        ({"lam": torch.tensor([0, 1, 0, 1])}, r"lam, as a tensor, must be floating point, not torch.int64"),
        ({"blocks": torch.tensor([2, 2, 4, 4])}, r"blocks must be a number per side, such as 4, or a pair"),
    ],
)
def test_what_is_each_images_own_must_fit(images, bad, message):
    with pytest.raises(InputError, match=message):
        puzzle_mix(images, torch.rand(4, 16, 16), PARTNER, **({"lam": 0.5, "blocks": 4} | bad))


# --- any tensors ---


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_mixed_in_single(images, dtype):
    images, saliency = images.to(dtype), torch.rand(4, 16, 16).to(dtype)
    puzzle = puzzle_mix(images, saliency, PARTNER, lam=0.5, blocks=4)
    single = puzzle_mix(images.float(), saliency.float(), PARTNER, lam=0.5, blocks=4)
    assert puzzle.images.dtype == dtype
    assert torch.equal(puzzle.images, single.images.to(dtype))
    assert torch.equal(puzzle.mask, single.mask)


def test_half_precision_models_have_saliency(labels):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, K)).to(torch.bfloat16)
    images = torch.rand(4, 3, 16, 16).to(torch.bfloat16)
    mixer = PuzzleMix(num_classes=K)
    mixed, _ = mixer(network, images, labels)
    assert mixed.dtype == torch.bfloat16
    assert mixer.pop_counts() == {"uniform_saliency": 0}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_normalised_images_of_half_precision_come_back_so_and_spoil_nothing(labels, dtype):
    pixels = torch.rand(4, 3, 16, 16)
    pixels[0], pixels[1] = 0, 1
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(-1, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(-1, 1, 1)
    normalised = (pixels - mean) / std
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, K))
    mix = PuzzleMix(num_classes=K, mean=mean.flatten().tolist(), std=std.flatten().tolist())
    given = {"lam": 0.4, "partner": PARTNER, "blocks": 4}
    wanted, _ = mix(model, normalised, labels, **given)
    mixed, _ = mix(deepcopy(model).to(dtype), normalised.to(dtype), labels, **given)
    assert mixed.dtype == dtype
    assert ((mixed - wanted).abs() > 0.03).double().mean() < 0.1  # except in blocks where rounding decides
    noisy, _ = PuzzleMix(num_classes=K, adv_p=1.0, mean=mix.mean.flatten(), std=mix.std.flatten())(
        deepcopy(model).to(dtype), normalised.to(dtype), labels
    )
    assert noisy.dtype == dtype
    again, _ = mix(model, normalised, labels, **given)
    assert torch.equal(again, wanted)


class Sure(nn.Module):
    """Gives each image of a batch its own class, by some margin."""

    def __init__(self, margin):
        super().__init__()
        self.linear, self.margin = nn.Linear(768, K), margin

    def forward(self, x):
        return self.linear(x.flatten(1)) / 10 + self.margin * torch.eye(K).to(x)[: len(x)]


@pytest.mark.parametrize("margin", [0, 8, 12])
def test_a_network_of_half_precision_may_be_sure_of_its_answers(margin):
    """Then the mean cross-entropy has gradients that float16 rounds to 0."""
    sure, labels, images = Sure(margin), torch.arange(4), torch.rand(4, 3, 16, 16)
    wanted = plain_gradient(sure.double(), images.double(), labels)
    gradient = input_gradient(sure.half(), images.half(), labels)
    assert gradient.dtype == torch.float32
    for b in range(4):
        assert (gradient[b] - wanted[b]).norm() < 0.02 * wanted[b].norm()


class ChangesItsInput(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x.sub_(0.5).div_(0.25))


def test_a_model_may_begin_in_place(network, images, labels):
    before = images.clone()
    gradient = input_gradient(ChangesItsInput(network), images, labels)
    assert torch.equal(images, before)
    torch.testing.assert_close(gradient, 4 * plain_gradient(network, (images - 0.5) / 0.25, labels))


def test_views_and_memory_formats_mix_alike(images):
    saliency = torch.rand(4, 16, 16)
    wanted = puzzle_mix(images, saliency, PARTNER, lam=0.5, blocks=4).images
    channels_last = images.to(memory_format=torch.channels_last)
    for same in (
        channels_last,
        images.transpose(2, 3).contiguous().transpose(2, 3),
        torch.cat([images, images], dim=1)[:, :3],
        images.clone().requires_grad_(),
    ):
        as_views = saliency.transpose(1, 2).contiguous().transpose(1, 2), PARTNER.repeat_interleave(2)[::2]
        puzzle = puzzle_mix(same, *as_views, lam=0.5, blocks=4)
        assert torch.equal(puzzle.images, wanted)
        assert not puzzle.images.requires_grad
        assert puzzle.images.is_contiguous(memory_format=torch.channels_last) == (same is channels_last)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"images": torch.rand(3, 16, 16)}, r"images must have shape \(B, C, H, W\), not \(3, 16, 16\)"),
        ({"images": torch.ones(4, 3, 16, 16, dtype=torch.uint8)}, r"images must be floating point, not torch.uint8"),
        ({"saliency": torch.rand(4, 16, 15)}, r"saliency must have shape \(4, 16, 16\), not \(4, 16, 15\)"),
        ({"saliency": torch.ones(4, 16, 16).long()}, r"saliency must be floating point, not torch.int64"),
        ({"saliency": torch.rand(4, 16, 16) - 0.5}, r"saliency must be 0 or more, not -0\."),
        ({"saliency": torch.rand(4, 16, 16, device="meta")}, r"saliency must be on the images' device, cpu, not meta"),
        ({"partner": torch.tensor([1, 0])}, r"partner must have shape \(4,\), not \(2,\)"),
        ({"partner": torch.tensor([1, 0, 3, 4])}, r"partner must lie in \[0, 3\], not from 0 to 4"),
        ({"partner": torch.tensor([1, 0, 3, -1])}, r"partner must lie in \[0, 3\], not from -1 to 3"),
        ({"partner": torch.tensor([1, 0, 3, 2], dtype=torch.int32)}, r"partner must be torch.int64, not torch.int32"),
        ({"partner": [1, 0, 3, 2]}, r"partner must be a tensor, not list"),
        ({"images": torch.full((4, 3, 16, 16), 255.0)}, r"images must be pixels in \[0, 1\], not from 255 to 255"),
        ({"images": torch.full((4, 3, 16, 16), torch.nan)}, r"not from nan to nan: find the step that makes some of"),
        ({"lam": 1.5}, r"lam must be a number, in \[0, 1\], not 1.5"),
    ],
)
def test_tensors_that_do_not_fit_are_named(images, bad, message):
    given = {"images": images, "saliency": torch.rand(4, 16, 16), "partner": PARTNER, "lam": 0.5} | bad
    with pytest.raises(InputError, match=message):
        puzzle_mix(**given, blocks=4)


# --- saliency ---


def test_saliency_is_the_gradient_with_respect_to_the_normalised_input(network, images, labels):
    saliency = saliency_of(input_gradient(network, images, labels), network)
    behind = deepcopy(network)
    behind.normalize = nn.Identity()
    g = plain_gradient(behind, network.normalize(images), labels)
    torch.testing.assert_close(saliency, ((g[:, 0] ** 2 + g[:, 1] ** 2 + g[:, 2] ** 2) / 3).sqrt())
    assert saliency.min() >= 0


def test_torchvisions_normalisation_is_recognised(network, images, labels):
    class NormalizingInside(nn.Module):
        def __init__(self):
            super().__init__()
            self.normalize = v2.Normalize(MEAN, STD)  # whose std is a list
            self.network = network
            self.network.normalize = nn.Identity()

        def forward(self, pixels):
            return self.network(self.normalize(pixels))

    wanted = saliency_of(input_gradient(network, images, labels), network)
    wrapped = NormalizingInside()
    for model in (wrapped, nn.Sequential(wrapped.normalize, wrapped.network)):
        saliency = saliency_of(input_gradient(model, images, labels), model)
        torch.testing.assert_close(saliency, wanted)


def test_a_normalisation_by_one_number_for_all_channels_is_recognised(labels):
    class Grey(nn.Module):
        mean, std = 0.5, 0.25

        def forward(self, pixels):
            return (pixels - self.mean) / self.std

    images = torch.rand(4, 1, 16, 16)
    model = nn.Sequential(Grey(), nn.Flatten(), nn.Linear(256, K))
    gradient = input_gradient(model, images, labels)
    torch.testing.assert_close(saliency_of(gradient, model), 0.25 * gradient[:, 0].abs())


def test_saliency_of_a_model_without_normalisation_is_its_gradient_as_it_is(images, labels):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, K))
    saliency = saliency_of(input_gradient(network, images, labels), network)
    torch.testing.assert_close(saliency, plain_gradient(network, images, labels).square().mean(1).sqrt())
    given = {"lam": 0.4, "partner": PARTNER, "blocks": 4}
    mixed, _ = PuzzleMix(num_classes=K)(network, images, labels, **given)
    torch.testing.assert_close(mixed, puzzle_mix(images, saliency, PARTNER, lam=0.4, blocks=4).images)


def test_saliency_pass_works_without_grad_mode(network, images, labels):
    with torch.no_grad():
        gradient = input_gradient(network, images, labels)
    torch.testing.assert_close(gradient, plain_gradient(network, images, labels))


# --- what is left of the model ---


def test_the_call_leaves_modes_gradients_and_statistics(network, images, labels):
    network.train()
    network.layer2.eval()  # frozen by the caller
    network.linear.bias.requires_grad_(False)
    network.conv1.weight.grad = torch.rand_like(network.conv1.weight)
    modes = {name: module.training for name, module in network.named_modules()}
    state = deepcopy(network.state_dict())
    gradients = {name: p.grad if p.grad is None else p.grad.clone() for name, p in network.named_parameters()}

    PuzzleMix(num_classes=K, adv_p=1.0)(network, images, labels)

    assert {name: module.training for name, module in network.named_modules()} == modes
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), name
    for name, parameter in network.named_parameters():
        wanted = gradients[name]
        assert parameter.grad is None if wanted is None else torch.equal(parameter.grad, wanted), name
    assert [name for name, p in network.named_parameters() if not p.requires_grad] == ["linear.bias"]


def test_weights_need_no_gradient_meanwhile(network, images, labels):
    """Otherwise a compiled network computes the gradients of all weights."""
    needed = []
    network.conv1.register_forward_hook(lambda module, *_: needed.append(module.weight.requires_grad))
    input_gradient(network, images, labels)
    network(images)
    assert needed == [False, True]


def test_a_model_in_data_parallel_is_the_model_inside(network, images, labels):
    given = {"lam": 0.4, "partner": PARTNER, "blocks": (4, 4)}
    mix = PuzzleMix(num_classes=K)
    wrapped = mix(nn.DataParallel(network), images, labels, **given)
    torch.testing.assert_close(wrapped, mix(network, images, labels, **given), atol=0, rtol=0)


def test_a_default_device_elsewhere_changes_nothing(network, images, labels):
    given = {"lam": torch.full((4,), 0.4), "partner": PARTNER, "blocks": 4}
    with torch.device("meta"):
        mix = PuzzleMix(num_classes=K, mean=[0.0], std=[1.0])
        mixed, _ = mix(network, images, labels, **given)
        PuzzleMix(num_classes=K, per_sample=True)(network, images, labels)
    wanted, _ = PuzzleMix(num_classes=K)(network, images, labels, **given)
    torch.testing.assert_close(mixed, wanted)


def test_a_share_with_a_gradient_mixes_as_one_without(images):
    for solver in ("exact", "swap"):
        options = {"saliency": torch.rand(4, 16, 16), "partner": PARTNER, "blocks": 4, "solver": solver}
        lam = torch.full((4,), 0.4)
        mixed = puzzle_mix(images, lam=lam.clone().requires_grad_(), **options).images
        assert torch.equal(mixed, puzzle_mix(images, lam=lam, **options).images)


def test_calls_leave_nothing_behind_in_a_mixer(network, images, labels):
    mix = PuzzleMix(num_classes=K)
    sizes = []
    for _ in range(2):
        for _ in range(20):
            mix(network, images, labels)
        sizes.append(len(pickle.dumps(mix)))
    assert sizes[1] - sizes[0] < 20  # bytes: numbers differ in length


READ_ONLY = """
import numba.core.caching, torch
def nowhere(*arguments, **options): raise OSError(30, "Read-only file system")
numba.core.caching.os.makedirs = nowhere
numba.core.caching.tempfile.TemporaryFile = nowhere
import puzzlemix
print(puzzlemix.puzzle_mix(torch.rand(2, 1, 8, 8), torch.rand(2, 8, 8), torch.tensor([1, 0]), lam=0.5, blocks=2).share)
"""


def test_mixing_needs_no_folder_to_write_to():
    """Root may write anywhere, so the test replaces the system calls by failing ones."""
    done = subprocess.run([sys.executable, "-c", READ_ONLY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tensor(")


def test_a_compiled_model_has_the_saliency_of_the_model_inside(network, images, labels):
    compiled = torch.compile(network, backend="aot_eager")
    given = {"lam": 0.4, "partner": PARTNER, "blocks": (4, 4)}
    mix = PuzzleMix(num_classes=K)
    mixed, targets = mix(compiled, images, labels, **given)
    wanted = mix(network, images, labels, **given)
    torch.testing.assert_close((mixed, targets), wanted, atol=0, rtol=0)
    assert compiled.training
    F.cross_entropy(compiled(mixed), targets).backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


MEMORY = """
import torch
import puzzlemix

def megabytes(key):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(key)) / 1024

def mix(images):
    saliency, partner = torch.rand(len(images), 64, 64), torch.arange(len(images)).roll(1)
    before = megabytes("VmRSS")
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")  # resets the peak
    puzzlemix.puzzle_mix(images, saliency, partner, lam=0.5, blocks=16)
    return megabytes("VmHWM") - before

mix(torch.rand(2, 3, 64, 64))  # loads the compiled loops
print(mix(torch.rand(100, 3, 64, 64)) - 100 * 3 * 64 * 64 * 4 / 2**20)  # beyond the mixed images
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux reports the peak of memory")
def test_mixing_needs_little_memory():
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 100


def test_the_model_is_as_before_when_the_saliency_pass_fails(network, labels):
    network.train()
    with pytest.raises(RuntimeError):
        PuzzleMix(num_classes=K)(network, torch.rand(4, 7, 16, 16), labels)
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    ("clean_lam", "loss", "weight"),
    [(0.5, "bce_on_softmax", 1 / K), (2.0, "bce_on_softmax", 4 / K), (2.0, "soft_cross_entropy", 2.0)],
)
def test_clean_regulariser_adds_its_gradients_and_moves_statistics(network, images, labels, clean_lam, loss, weight):
    network.train()
    plain = deepcopy(network)
    wanted = weight * F.cross_entropy(plain(images), labels)
    wanted.backward()
    already = torch.rand_like(network.conv1.weight)
    network.conv1.weight.grad = already.clone()

    mixer = PuzzleMix(num_classes=K, clean_lam=clean_lam, loss=loss)
    mixer(network, images, labels)
    assert torch.equal(network.conv1.weight.grad, already)
    assert network.linear.weight.grad is None
    clean = mixer.pop_clean_loss()
    torch.testing.assert_close(clean, wanted)
    clean.backward()

    plain.conv1.weight.grad += already
    for (name, parameter), wanted in zip(network.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, wanted.grad, msg=name)
        assert parameter.grad.any(), name
    torch.testing.assert_close(network.state_dict(), plain.state_dict())
    assert all(module.training for module in network.modules())


def test_clean_regulariser_stops_at_its_epoch(network, images, labels):
    mixer = PuzzleMix(num_classes=K, clean_lam=1.0, clean_until_epoch=2)
    has_loss = []
    for mixer.epoch in range(4):
        mixer(network, images, labels)
        has_loss.append(isinstance(mixer.pop_clean_loss(), torch.Tensor))
    assert has_loss == [True, True, False, False]


# --- adversarial noise ---


@pytest.mark.parametrize(
    ("lam", "noisy", "shown_is_noisy"),
    [(1.0, (True, False), True), (1.0, (False, True), False), (0.0, (False, True), True), (0.0, (True, False), False)],
)
def test_noise_is_one_scaled_sign_step_on_the_side_whose_coin_is_up(
    network, images, labels, lam, noisy, shown_is_noisy
):
    """With lam 1 or 0 the mixed image is one image of the pair."""
    eps, scale = 10 / 255, 0.7
    start = torch.empty_like(images).uniform_(-eps, eps)
    given = {"lam": lam, "partner": PARTNER, "blocks": 2, "noisy": noisy, "start_noise": start, "noise_scale": scale}
    mixed, _ = PuzzleMix(num_classes=K)(network, images, labels, **given)

    begun = (images + start).clamp(0, 1)
    step = 12 / 255 * plain_gradient(network, begun, labels).sign()
    noise = (begun - images + step).clamp(-eps, eps) * scale
    wanted = (images + noise).clamp(0, 1) if shown_is_noisy else images
    wanted = wanted if lam == 1 else wanted[PARTNER]
    assert ((mixed - wanted).abs() > 1e-5).double().mean() < 1e-3  # a sign at a gradient of nearly zero may flip


def test_noisy_images_stay_pixels_within_eps(network, images, labels):
    images = images.round()  # black and white, so that noise would leave [0, 1]
    mixer = PuzzleMix(num_classes=K, adv_p=1.0, adv_eps=20)
    for _ in range(5):
        mixed, _ = mixer(network, images, labels, lam=1.0, partner=PARTNER, blocks=2)
        assert mixed.min() >= 0
        assert mixed.max() <= 1
        assert 0 < (mixed - images).abs().max() <= 20 / 255 + 1e-6


def test_a_gradient_that_is_not_a_number_makes_no_noise_of_its_own(images, labels):
    class BrokenAtACorner(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(images[0].numel(), K)

        def forward(self, pixels):
            return self.linear(pixels.flatten(1)) + (0 * pixels[:, 0, 0, :1]).sqrt()  # whose gradient is 0 * inf

    mixer = PuzzleMix(num_classes=K, adv_p=1.0)
    mixed, targets = mixer(BrokenAtACorner(), images, labels)
    assert mixed.isfinite().all()
    assert targets.isfinite().all()
    assert mixer.pop_counts() == {"uniform_saliency": len(images)}


def test_each_side_is_noisy_with_probability_adv_p_of_its_own(images):
    mixer = PuzzleMix(num_classes=K, adv_p=0.3, blocks=2)
    noisy = torch.tensor([mixer.draw(images[:2, :, :2, :2], {})["noisy"] for _ in range(3000)]).double()
    torch.testing.assert_close(noisy.mean(0), torch.full((2,), 0.3).double(), atol=0.035, rtol=0)
    assert noisy.prod(1).mean() == pytest.approx(0.09, abs=0.025)


def test_a_shared_coin_is_that_of_both_sides(images):
    mixer = PuzzleMix(num_classes=K, adv_p=0.3, blocks=2, adv_shared_coin=True)
    noisy = [mixer.draw(images[:2, :, :2, :2], {})["noisy"] for _ in range(3000)]
    assert {first == second for first, second in noisy} == {True}
    assert sum(first for first, _ in noisy) / 3000 == pytest.approx(0.3, abs=0.035)


@pytest.mark.parametrize("adv_decay", [True, False])
def test_noise_shrinks_by_a_uniform_number_unless_it_does_not_decay(network, images, labels, adv_decay):
    """With lam 1 the mixed image is the first image; nearly all its pixels have noise at the bound."""
    mixer, flat = PuzzleMix(num_classes=K, adv_p=1.0, adv_decay=adv_decay), (images + 1) / 3  # so that none is clipped
    scales = [mixer.draw(images, {})["noise_scale"] for _ in range(1000)]
    given = {"lam": 1.0, "partner": PARTNER, "blocks": 2}
    reached = [(mixer(network, flat, labels, **given)[0] - flat).abs().median() * 255 for _ in range(5)]
    if adv_decay:
        assert torch.tensor(scales).std() == pytest.approx(12**-0.5, rel=0.05)  # of U(0, 1)
        assert len({round(float(noise), 3) for noise in reached}) == 5
    else:
        assert set(scales) == {1.0}
        assert reached == [pytest.approx(10)] * 5
    shrunk, _ = mixer(network, flat, labels, noise_scale=0.25, **given)  # what is drawn can be given
    assert (shrunk - flat).abs().median() * 255 == pytest.approx(2.5, rel=1e-4)


@pytest.mark.parametrize("scale", [50.0, -0.1, torch.full((4, 1, 1, 1), 0.5)])
def test_scales_that_are_no_shares_are_named(network, images, labels, scale):
    with pytest.raises(InputError, match="noise_scale must"):
        PuzzleMix(num_classes=K, adv_p=1.0)(network, images, labels, noise_scale=scale)


@pytest.mark.parametrize("noisy", [True, (True,), (True, False, True), torch.ones(4), (torch.ones(4), True)])
def test_coins_that_are_none_are_named(network, images, labels, noisy):
    with pytest.raises(InputError, match="noisy must"):
        PuzzleMix(num_classes=K)(network, images, labels, noisy=noisy)


def test_start_noise_fills_its_range(images):
    noise = PuzzleMix(num_classes=K, adv_p=1.0, adv_eps=20).draw(images, {})["start_noise"]
    assert noise.shape == images.shape
    assert noise.abs().max() <= 20 / 255
    assert noise.std() == pytest.approx(20 / 255 / 3**0.5, rel=0.05)  # of a uniform distribution
    assert noise.mean() == pytest.approx(0, abs=0.003)


# --- what cannot work ---


@pytest.mark.parametrize("blocks", [17, (2, 17), (17, 2)])
def test_more_blocks_than_pixels_is_an_error(images, blocks):
    with pytest.raises(InputError, match=r"16 x 16 pixels.*blocks"):
        puzzle_mix(images, torch.rand(4, 16, 16), PARTNER, lam=0.5, blocks=blocks)


def test_a_loop_can_ask_whether_a_size_fits(network):
    mixer = PuzzleMix(num_classes=K, blocks=(2, (4, 16)))
    mixer.check(network, 4, 16)
    for size in ((3, 16), (4, 15)):
        with pytest.raises(InputError, match=r"4 x 16 blocks"):
            mixer.check(network, *size)


@pytest.mark.parametrize(
    ("options", "size", "message"),
    [
        ({"solver": "swap", "beta": 10.1}, (32, 32), "beta is too large for solver=swap with 16 x 16 blocks"),
    ],
)
def test_what_cannot_be_mixed_is_told_before_training(network, options, size, message):
    PuzzleMix(num_classes=K).check(network, *size)
    with pytest.raises(InputError, match=message):
        PuzzleMix(num_classes=K, **options).check(network, *size)


NAN, INF = float("nan"), float("inf")
OUT_OF_RANGE = [
    *({"gamma": value} for value in (-0.1, 1.01, NAN)),
    *({name: value} for name in ("beta", "eta", "t_eps") for value in (-0.1, NAN, INF, "1", None)),
    *({"neigh_size": value} for value in (0, 2.5, None)),
    *({"n_labels": value} for value in (1, 3.0, None)),
    *({"t_size": value} for value in (0, 2.0)),
    {"solver": "swop"},
    {"transport": "exactly"},
    {"transport": 1},
]


@pytest.mark.parametrize("bad", OUT_OF_RANGE)
def test_a_parameter_out_of_range_is_named(images, bad):
    for call in (
        lambda: PuzzleMix(num_classes=K, **bad),
        lambda: puzzle_mix(images, torch.rand(4, 16, 16), PARTNER, lam=0.5, blocks=2, **bad),
    ):
        with pytest.raises(InputError, match=next(iter(bad))):
            call()


@pytest.mark.parametrize(
    "bad",
    [
        {"clean_lam": -1},
        {"loss": "bce"},
        *({"adv_p": p} for p in (1.5, None, "1")),
        *({"adv_eps": eps} for eps in (-1, 256, None, (1, 2))),
        *({name: "False"} for name in ("per_sample", "adv_shared_coin", "adv_decay")),
        *({"per_sample": value} for value in (None, 1)),
        *({"blocks": blocks} for blocks in ((), "ab", torch.tensor(4), ("a",), (2.5,), ((2, 4, 8),))),
        *({"clean_until_epoch": epoch} for epoch in ("abc", -3)),
        *({"alpha": alpha} for alpha in (0, INF, "1")),
        {"clean_lam": INF},
        {"mean": MEAN},
        {"std": STD},
        {"mean": MEAN, "std": STD[:2]},
        {"mean": 0.5, "std": "abc"},
        {"mean": (), "std": ()},
        {"std": [0.2, 0.2, 0], "mean": MEAN},
    ],
)
def test_a_parameter_of_the_mixer_out_of_range_is_named(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        PuzzleMix(num_classes=K, **bad)


@pytest.mark.parametrize("num_classes", [0, 5.0, None])
def test_a_number_of_classes_that_is_none_is_named(num_classes):
    with pytest.raises(InputError, match="num_classes must be a whole number"):
        PuzzleMix(num_classes=num_classes)


def test_gamma_above_1_is_left_to_the_released_solver(images):
    options = {"lam": 0.5, "blocks": 4, "gamma": 4.0}
    assert puzzle_mix(images, torch.rand(4, 16, 16), PARTNER, solver="swap", **options).images.isfinite().all()
    with pytest.raises(InputError, match="gamma"):
        puzzle_mix(images, torch.rand(4, 16, 16), PARTNER, **options)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images", torch.rand(4, 16, 16)),
        ("saliency", torch.rand(4, 1, 16, 16)),
        ("saliency", torch.rand(4, 16, 8)),
        ("partner", torch.tensor([1, 0])),
        ("lam", 1.1),
        ("lam", -0.1),
        ("lam", None),
        ("noise", None),
        ("noise", torch.zeros(4, 3, 8, 8)),
        ("noise", torch.zeros(4, 16, 16)),
        ("noise", np.zeros((4, 3, 16, 16))),
        ("noisy", True),
        ("noisy", (True,)),
        ("blocks", torch.tensor(2)),
        ("images", torch.rand(4, 0, 16, 16)),
        ("images", torch.rand(0, 3, 16, 16)),
    ],
)
def test_input_that_does_not_fit_is_named(images, name, value):
    given = {"images": images, "saliency": torch.rand(4, 16, 16), "partner": PARTNER, "lam": 0.5, "noise": images}
    with pytest.raises(InputError, match=name):
        puzzle_mix(**{**given, "blocks": 2, "noisy": (True, False), name: value})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": torch.ones(4, 3, 16, 16, dtype=torch.uint8)}, "images must be floating point, not torch.uint8"),
        ({"images": torch.full((4, 3, 16, 16), 255.0)}, r"images must be pixels in \[0, 1\]"),
        ({"images": torch.rand(4, 16, 16)}, r"images must have shape \(B, C, H, W\)"),
        ({"blocks": 17}, "16 x 16 pixels are smaller"),
        ({"partner": torch.tensor([0, 1, 2, 4])}, r"partner must lie in \[0, 3\]"),
    ],
)
def test_a_mixer_names_what_does_not_fit_before_it_differentiates(network, images, labels, given, message):
    given = {"images": images} | given
    with pytest.raises(InputError, match=message):
        PuzzleMix(num_classes=K, clean_lam=1.0)(network, given.pop("images"), labels, **given)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_normalised_images_of_other_channels_are_named(network, images, labels):
    with pytest.raises(InputError, match="mean and std are of 2 channels, but the images have 3"):
        PuzzleMix(num_classes=K, mean=MEAN[:2], std=STD[:2])(network, images, labels)


def test_blocks_that_images_are_too_small_for_are_named_at_the_first_batch(network, labels):
    mixer = PuzzleMix(num_classes=K)
    for _ in range(4):
        with pytest.raises(InputError, match="15 x 15 pixels are smaller than a grid of 16 x 16 blocks"):
            mixer(network, torch.rand(4, 3, 15, 15), labels)
    mixer(network, torch.rand(4, 3, 15, 15), labels, blocks=4)


def test_labels_that_the_model_has_no_score_for_are_named(network, images, labels):
    with pytest.raises(InputError, match=f"num_classes is {K + 1}, but the model has scores for {K} classes"):
        PuzzleMix(num_classes=K + 1)(network, images, labels)


def test_seeded_each_epoch_a_new_mixer_draws_what_the_old_one_would_have(images):
    drawn = []
    for epochs in ((0, 1, 2), (2,)):
        mixer = PuzzleMix(num_classes=K)
        for epoch in epochs:
            mixer.draws.seed(3, epoch)
            batches = [mixer.draw(images, {}) for _ in range(5)]
        drawn.append([(b["lam"], b["blocks"], b["partner"].tolist()) for b in batches])
    assert drawn[0] == drawn[1]


def test_pixels_that_resizing_overshot_are_mixed(images):
    small = images - images.min()
    large = F.interpolate((small > 0.5).float(), size=(48, 48), mode="bicubic")
    assert large.max() > 1
    puzzle = puzzle_mix(large, torch.rand(4, 48, 48), PARTNER, lam=0.5, blocks=4)
    assert puzzle.images.isfinite().all()


@pytest.mark.parametrize("answer", [lambda x: {"scores": x.flatten(1)}, lambda x: x, lambda x: ()])
def test_a_model_that_does_not_answer_with_scores_is_named(images, labels, answer):
    class Model(nn.Module):
        def forward(self, x):
            return answer(x)

    with pytest.raises(InputError, match="the model must return class scores"):
        PuzzleMix(num_classes=K)(Model(), images, labels)


def test_a_model_that_cannot_be_called_or_trained_is_named(network, images, labels):
    with pytest.raises(InputError, match=r"the model must be a torch\.nn\.Module or a function, not str"):
        PuzzleMix(num_classes=K)("network", images, labels)
    with pytest.raises(InputError, match=r"clean_lam needs a torch\.nn\.Module"):
        PuzzleMix(num_classes=K, clean_lam=1.0)(lambda x: network(x), images, labels)


@pytest.mark.parametrize("detach", [lambda x: x.detach(), lambda x: x.new_tensor(x.tolist())])
@pytest.mark.parametrize("of_scores", [True, False])
@pytest.mark.parametrize("clean_lam", [0.0, 1.0])
def test_a_model_that_lets_no_gradient_through_is_named(images, labels, detach, of_scores, clean_lam):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.LazyLinear(K)

        def forward(self, x):
            return detach(self.linear(x.flatten(1))) if of_scores else self.linear(detach(x).flatten(1))

    with pytest.raises(InputError, match="the model detaches its scores from them"):
        PuzzleMix(num_classes=K, clean_lam=clean_lam)(Model(), images, labels)


@pytest.mark.parametrize("clean_lam", [0.0, 1.0])
def test_no_grad_around_a_call_changes_nothing(network, images, labels, clean_lam):
    given = {"lam": 0.4, "partner": PARTNER, "blocks": 4}
    expected, _ = PuzzleMix(num_classes=K, clean_lam=clean_lam)(deepcopy(network), images, labels, **given)
    with torch.no_grad():
        mixed, _ = PuzzleMix(num_classes=K, clean_lam=clean_lam)(network, images, labels, **given)
    assert torch.equal(mixed, expected)


def test_blocks_below_one_are_named(images):
    with pytest.raises(InputError, match=r"blocks must be a number per side, such as 4, or a pair.*not \(2, 0\)"):
        puzzle_mix(images, torch.rand(4, 16, 16), PARTNER, lam=0.5, blocks=(2, 0))


def test_an_error_is_one_line_whatever_was_given(images):
    with pytest.raises(InputError, match="must be a number") as error:
        puzzle_mix(images, torch.rand(4, 16, 16), PARTNER, lam=nn.Sequential(nn.ReLU(), nn.ReLU()), blocks=4)
    assert "\n" not in str(error.value)


def test_inference_mode_is_named(network, images, labels):
    with torch.inference_mode(), pytest.raises(InputError, match=r"outside torch\.inference_mode"):
        PuzzleMix(num_classes=K)(network, images, labels)


class Stretched(nn.Module):
    """A network for pixels 3 x - 1."""

    def __init__(self, network):
        super().__init__()
        self.network, self.normalize = network, network.normalize

    def forward(self, images):
        return self.network((images + 1) / 3)


def test_colours_that_were_not_clipped_mix_by_the_same_rules(network, images, labels):
    """Costs depend on differences between pixels only; three times the differences cost the same with gamma / 3."""
    given, stretched = {"lam": 0.4, "partner": PARTNER, "blocks": 4}, 3 * images - 1
    clipped, mixer = PuzzleMix(num_classes=K), PuzzleMix(num_classes=K, gamma=0.5 / 3)
    with pytest.raises(InputError, match=r"images must be pixels in \[0, 1\]"):
        mixer(Stretched(network), stretched, labels, **given)
    mixer.overshoot = torch.inf
    mixed, targets = mixer(Stretched(network), stretched, labels, **given)
    wanted, same = clipped(network, images, labels, **given)
    torch.testing.assert_close(mixed, 3 * wanted - 1)
    assert torch.equal(targets, same)
    for value in (torch.nan, torch.inf):
        stretched[0, 0, 0, 0] = value
        with pytest.raises(InputError, match="images must be pixels"):
            mixer(network, stretched, labels)
