"""Precision, layout and kernels change a training by rounding alone, and evaluation not at all."""

import json
import platform
import resource
import subprocess
import sys
from functools import cache

import pytest
import torch
from conftest import log_of, tiny_run
from torch import nn

from puzzlemix import ManifoldMixup
from puzzlemix.mixing.losses import LOSSES
from puzzlemix.runtime.checkpoint import load_checkpoint
from puzzlemix.runtime.errors import InputError
from puzzlemix.training.precision import Arithmetic

FIFTY_STEPS = (  # ten an epoch
    *("dataset.train_per_class=20", "recipe.epochs=5", "recipe.lr=0.02"),
    *("recipe.schedule=steps", "recipe.loss=bce_on_softmax"),
    "dataset.validation_per_class=1",  # ten images to evaluate on
)


class Staged(nn.Module):
    """A network of two stages, which compiles in seconds."""

    def __init__(self, channels=8, num_classes=10, **_):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, channels, 3, 4), nn.BatchNorm2d(channels), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(channels, channels, 3, 2), nn.BatchNorm2d(channels), nn.ReLU())
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, pixels):
        return self.linear(self.layer2(self.layer1(pixels)).mean((2, 3)))


@pytest.fixture(scope="module")
def losses(tmp_path_factory):
    """`losses("precision=bf16")`: the training loss of each of five epochs of ten steps."""

    @cache
    def run(*overrides):
        folder = tiny_run(tmp_path_factory.mktemp("losses"), *FIFTY_STEPS, *overrides)
        return torch.tensor([record["train_loss"] for record in log_of(folder)])

    return run


@pytest.mark.parametrize("mixup", ["manifold", "puzzlemix", "puzzlemix_adversarial"])
def test_bf16_stays_within_2_percent_of_the_loss_over_50_steps(losses, mixup):
    exact, rounded = (losses(f"mixup={mixup}", *precision) for precision in ((), ("precision=bf16",)))
    assert exact[-1] < 0.99 * exact[0], "a run that learns nothing would prove nothing"
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0)


@pytest.mark.parametrize("setting", ["channels_last=false", "fused=false"])
def test_layout_and_fused_optimiser_stay_within_rounding_over_50_steps(losses, setting):
    torch.testing.assert_close(losses("mixup=puzzlemix", setting), losses("mixup=puzzlemix"), rtol=5e-3, atol=0)


@pytest.mark.slow
def test_a_compiled_run_stays_within_rounding_over_50_steps(losses):
    network = f"network._target_={__name__}.Staged"
    eager, compiled = (losses(network, "mixup=puzzlemix", f"compile={on}") for on in ("false", "true"))
    torch.testing.assert_close(compiled, eager, rtol=5e-3, atol=0)


STEP_OF_FEW_CHANNELS = """
import torch
from puzzlemix.training.precision import Arithmetic
from puzzlemix.networks.preact_resnet import preactresnet18
for channels in (8, 16):
    network = preactresnet18(10, channels, mean=[0.5] * 3, std=[0.25] * 3)
    Arithmetic(channels_last=True).prepare(network)
    network(torch.rand(20, 3, 48, 48)).sum().backward()
    print(network.layer1[0].conv1.weight.is_contiguous())
"""


def test_a_network_too_narrow_for_channels_last_survives_a_step():
    step = [sys.executable, "-c", STEP_OF_FEW_CHANNELS]
    done = subprocess.run(step, capture_output=True, text=True)  # as a fault here ends its whole process
    assert (done.returncode, done.stdout.split()) == (0, ["True", "False"]), done.stderr


FAULTS = """
import resource
import torch
from puzzlemix.training.precision import Arithmetic

def step():
    for _ in [torch.ones(2**20) for _ in range(20)]: pass  # 80 MiB, then freed

Arithmetic().prepare(torch.nn.Sequential())
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5): step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library does as it likes")
def test_memory_of_a_step_is_kept_for_the_next():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 0.05 * 5 * 20 * 2**22 / resource.getpagesize()  # of pages touched


def test_hooks_on_compiled_stages_run():
    torch.manual_seed(0)
    network, images = Staged().eval(), torch.rand(4, 3, 32, 32)
    labels, partner = torch.arange(4), torch.tensor([1, 2, 3, 0])
    plain = network(images)
    scores = []
    for compiled in (False, True):
        Arithmetic(compile=compiled).prepare(network)
        mixer = ManifoldMixup(num_classes=10)
        network(mixer(network, images, labels, lam=0.3, partner=partner, layer=1)[0])
        mixed, _ = mixer(network, images, labels, lam=0.3, partner=partner, layer=1)
        scores.append(network(mixed))
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-4, atol=1e-5)
    assert (scores[0] - plain).abs().max() > 1e-4


@pytest.mark.parametrize("mixup", ["input", "manifold", "cutmix", "puzzlemix", "puzzlemix_adversarial"])
def test_deterministic_runs_of_one_seed_are_equal_in_every_bit(train, tmp_path, mixup):
    first, second = (train(f"mixup={mixup}", "deterministic=true", f"name={name}") for name in "ab")
    first, second = (load_checkpoint(tmp_path / name / "seed0" / "checkpoints" / "last.pt") for name in "ab")
    assert all(torch.equal(first["network"][key], value) for key, value in second["network"].items())
    assert torch.are_deterministic_algorithms_enabled()


def test_a_run_that_need_not_be_deterministic_is_not(train):
    torch.use_deterministic_algorithms(True)
    train("recipe.epochs=1")
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("settings", [("precision=bf16",), ("precision=tf32",), ("channels_last=false",)])
def test_evaluation_and_attacks_are_in_float32_whatever_was_trained_in(train, script, tmp_path, settings):
    train("name=run", "attack=fgsm", *settings)
    folder = tmp_path / "run" / "seed0"
    script("evaluate", f"checkpoint={folder}/checkpoints/last.pt", "attack=fgsm", "device=cpu")
    evaluated = json.loads((folder / "robustness.json").read_text())
    metrics = json.loads((folder / "metrics.json").read_text())
    assert evaluated["top1_error"] == metrics["top1_error"]["last"]
    assert evaluated["fgsm8_error"] == metrics["fgsm8_error"]
    weights = load_checkpoint(folder / "checkpoints" / "last.pt")["network"].values()
    assert {weight.dtype for weight in weights} == {torch.float32, torch.int64}


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_those_of_float32_inside_autocast(loss):
    logits, targets = torch.randn(4, 10).bfloat16(), torch.rand(4, 10).softmax(1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = LOSSES[loss](logits, targets)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, LOSSES[loss](logits.float(), targets))


def test_tf32_is_allowed_in_training_alone():
    arithmetic = Arithmetic(precision="tf32")
    arithmetic.prepare(nn.Linear(2, 2))
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("highest", False)
    with arithmetic.reduced(torch.device("cpu")):
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("high", True)
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("highest", False)


def test_what_is_no_setting_is_named(train):
    with pytest.raises(SystemExit, match=r"^error: unknown precision 'fp16'; did you mean 'bf16'\?$"):
        train("precision=fp16")
    with pytest.raises(SystemExit, match=r"^error: compile=yes: expected true or false, such as false"):
        train("compile=yes")
    with pytest.raises(InputError, match="fused must be true or false, not 1"):
        Arithmetic(fused=1)


def test_another_precision_is_another_run(train):
    train("precision=bf16")
    with pytest.raises(SystemExit, match=r"a run of another config \(precision: bf16 there, fp32 here\)"):
        train()
