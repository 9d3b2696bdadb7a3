"""Networks against the release's state dicts, parameter counts by formula, and torchvision."""

import pytest
import torch
import torchvision
from torch import nn

from puzzlemix.networks import preactresnet18, preactresnet34, wide_resnet
from puzzlemix.networks.normalize import Normalize
from puzzlemix.networks.resnet import resnet
from puzzlemix.runtime.errors import InputError

MEAN, STD = [0.5, 0.45, 0.4], [0.25, 0.2, 0.3]
STATISTICS = {"mean": MEAN, "std": STD}
PLAIN = {"mean": [0.0] * 3, "std": [1.0] * 3}

BUILDERS = {
    "preactresnet18": lambda **options: preactresnet18(10, 4, **options),
    "preactresnet34": lambda **options: preactresnet34(10, 4, **options),
    "wide_resnet": lambda **options: wide_resnet(16, 1, 10, **options),
    "resnet18": lambda **options: resnet(18, 10, **options),
    "resnet18_small": lambda **options: resnet(18, 10, small_images=True, **options),
}
networks = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def shapes(state):
    return {name: tuple(value.shape) for name, value in state.items()}


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("step_preact_vanilla", lambda: preactresnet18(10, 4, **STATISTICS)),
        ("step_wrn_vanilla", lambda: wide_resnet(10, 1, 10, **STATISTICS)),
    ],
)
def test_state_dict_has_the_releases_names_and_shapes(name, build, golden):
    released = {k.removeprefix("before."): v for k, v in golden(name).items() if k.startswith("before.")}
    assert shapes(build().state_dict()) == shapes(released)


# --- normalisation ---


def test_normalize_is_channel_by_channel():
    pixels = torch.rand(2, 3, 4, 5)
    normalised = Normalize(MEAN, STD)(pixels)
    for c in range(3):
        torch.testing.assert_close(normalised[:, c], (pixels[:, c] - MEAN[c]) / STD[c])


@pytest.mark.parametrize(("mean", "std"), [([0.5], [0.2, 0.2]), ([], []), ([0.5], [0.0]), ([0.5, 0.5], [0.2, -0.1])])
def test_statistics_that_cannot_normalise_are_an_error(mean, std):
    with pytest.raises(InputError, match="std"):
        Normalize(mean, std)


@networks
def test_normalising_inside_equals_normalising_outside(build):
    inside, outside = build(**STATISTICS).eval(), build(**PLAIN).eval()
    outside.load_state_dict(inside.state_dict())  # strict, because mean and std are not in the state dict
    pixels = torch.rand(2, 3, 32, 32)
    normalised = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(inside(pixels), outside(normalised))
    assert not torch.allclose(inside(pixels), outside(pixels))


# --- shapes ---


@networks
@pytest.mark.parametrize("channels", [1, 4])
def test_other_channel_counts(build, channels):
    network = build(mean=[0.5] * channels, std=[0.2] * channels).eval()
    assert network(torch.rand(2, channels, 32, 32)).shape == (2, 10)


def stage_sizes(network, pixels):
    """Rows and columns of each stage's output."""
    sizes = {}
    for name, module in network.named_children():
        if name.startswith("layer"):
            module.register_forward_hook(lambda _m, _i, out, name=name: sizes.update({name: tuple(out.shape[-2:])}))
    assert network.eval()(pixels).shape == (len(pixels), 10)
    return list(sizes.values())


@pytest.mark.parametrize(
    ("build", "sizes"),
    [(BUILDERS["preactresnet18"], [32, 16, 8, 4]), (BUILDERS["wide_resnet"], [32, 16, 8])],
)
def test_stride_two_at_64_pixels_sees_what_stride_one_sees_at_32(build, sizes):
    wanted = [(size, size) for size in sizes]
    assert stage_sizes(build(stride=1, **STATISTICS), torch.rand(2, 3, 32, 32)) == wanted
    assert stage_sizes(build(stride=2, **STATISTICS), torch.rand(2, 3, 64, 64)) == wanted


def test_rectangular_images():
    assert stage_sizes(preactresnet18(10, 4, **STATISTICS), torch.rand(2, 3, 24, 40))[-1] == (3, 5)


def test_small_images_keep_their_size_up_to_the_first_stage():
    pixels = torch.rand(2, 3, 32, 32)
    assert stage_sizes(resnet(18, 10, small_images=True, **STATISTICS), pixels) == [(n, n) for n in (32, 16, 8, 4)]
    assert stage_sizes(resnet(18, 10, **STATISTICS), pixels) == [(n, n) for n in (8, 4, 2, 1)]


# --- sizes, counted layer by layer ---


def conv(inputs, outputs, side, bias=False):
    return inputs * outputs * side**2 + bias * outputs


def preact_parameters(blocks, width, num_classes):
    total, inputs = conv(3, width, 3), width
    for stage, count in enumerate(blocks):
        outputs = width * 2**stage
        for block in range(count):
            total += 2 * inputs + conv(inputs, outputs, 3) + 2 * outputs + conv(outputs, outputs, 3)
            if block == 0 and stage > 0:
                total += conv(inputs, outputs, 1)  # the shortcut
            inputs = outputs
    return total + inputs * num_classes + num_classes


def wide_parameters(depth, factor, num_classes):
    total, inputs = conv(3, 16, 3, bias=True), 16
    for width in (16, 32, 64):
        outputs = width * factor
        for _ in range((depth - 4) // 6):
            total += (
                2 * inputs + conv(inputs, outputs, 3, bias=True) + 2 * outputs + conv(outputs, outputs, 3, bias=True)
            )
            if inputs != outputs:
                total += conv(inputs, outputs, 1, bias=True)
            inputs = outputs
    return total + 2 * inputs + inputs * num_classes + num_classes


@pytest.mark.parametrize(
    ("build", "wanted", "published"),
    [
        (lambda: preactresnet18(100, **STATISTICS), preact_parameters([2, 2, 2, 2], 64, 100), 11.2e6),
        (lambda: preactresnet34(100, **STATISTICS), preact_parameters([3, 4, 6, 3], 64, 100), 21.3e6),
        (lambda: wide_resnet(28, 10, 100, **STATISTICS), wide_parameters(28, 10, 100), 36.5e6),
    ],
    ids=["preactresnet18", "preactresnet34", "wrn28_10"],
)
def test_parameter_counts(build, wanted, published):
    with torch.device("meta"):
        network = build()
    assert parameters(network) == wanted
    assert wanted == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize(("depth", "blocks"), [(10, 1), (16, 2), (28, 4)])
def test_wide_resnets_depth_counts_its_layers(depth, blocks):
    network = wide_resnet(depth, 1, 10, **STATISTICS)
    assert [len(stage) for stage in (network.layer1, network.layer2, network.layer3)] == [blocks] * 3
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(layers) == depth - 3  # 6 n + 4 also counts three 1 x 1 shortcuts


@pytest.mark.parametrize("depth", [4, 5, 12, 27])
def test_wide_resnet_of_another_depth_is_an_error(depth):
    with pytest.raises(InputError, match=f"6 n \\+ 4.*not {depth}"):
        wide_resnet(depth, 1, 10, **STATISTICS)


# --- torchvision's ResNet ---


@pytest.mark.parametrize("depth", [18, 50])
def test_resnet_equals_torchvisions_behind_a_normalisation(depth):
    network = resnet(depth, 10, **STATISTICS).eval()
    reference = getattr(torchvision.models, f"resnet{depth}")(num_classes=10).eval()
    reference.load_state_dict(network.state_dict())
    pixels = torch.rand(2, 3, 64, 64)
    normalised = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(network(pixels), reference(normalised))


@pytest.mark.parametrize("depth", [18, 50])
def test_zero_init_zeroes_what_torchvisions_does(depth):
    def zeroed(network):
        return {name for name, value in network.named_parameters() if name.endswith("weight") and not value.any()}

    reference = getattr(torchvision.models, f"resnet{depth}")(zero_init_residual=True)
    assert zeroed(resnet(depth, 10, zero_init_last_bn=True, **STATISTICS)) == zeroed(reference) != set()
    assert zeroed(resnet(depth, 10, **STATISTICS)) == set()


def test_linear_std_draws_the_classifiers_weights():
    weight = resnet(18, 1000, linear_std=0.01, **STATISTICS).fc.weight
    assert weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert weight.mean().item() == pytest.approx(0, abs=1e-4)
    assert (weight.abs() > 0.02).double().mean().item() == pytest.approx(0.0455, abs=0.002)  # of a normal distribution


def test_resnet_of_another_depth_is_an_error():
    with pytest.raises(InputError, match=r"\[18, 50\], not 34"):
        resnet(34, 10, **STATISTICS)
