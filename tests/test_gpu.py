"""What only a GPU shows: `TRITON_INTERPRET=0 python -m pytest tests/test_gpu.py` on a machine that has one."""

import os

import pytest
import torch
from test_experiments import compose

from puzzlemix import InputMixup
from puzzlemix.cli.config import build, plain
from puzzlemix.runtime.errors import InputError
from puzzlemix.training.log import RunLog
from puzzlemix.training.loop import Trainer
from puzzlemix.training.progress import ProgressBar

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
    pytest.mark.skipif(os.environ["TRITON_INTERPRET"] != "0", reason="kernels are interpreted: TRITON_INTERPRET=0"),
]
METHODS = ["vanilla", "input", "manifold", "cutmix", "puzzlemix", "puzzlemix_adversarial", "augmix", "puzzlemix_aug"]
METHODS += ["pgd_training", "puzzlemix_pgd"]


@pytest.fixture
def trainer(tmp_path):
    """`trainer("mixup=input")`: of digits in batches of 50 on the GPU, 20 steps an epoch, the first epoch behind it."""

    def build_and_warm_up(*overrides):
        fixed = (f"results_dir={tmp_path}", "name=run", "device=cuda", "dataset.train_per_class=100")
        config = plain(compose(*fixed, "recipe.batch_size=50", "log_every=1000", *overrides))
        data, network, mixer, recipe = build(config)
        data.load(torch.device("cuda"))
        made = Trainer(network.cuda(), mixer, data, recipe, RunLog(config))
        with ProgressBar("", recipe.epochs, 0) as bar:
            made.train_epoch(bar)  # compiles kernels, fills caches
            made.state.begin_next_epoch()
        return made

    return build_and_warm_up


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("mixup", METHODS)
def test_no_step_waits_for_the_gpu(trainer, mixup, precision, monkeypatch):
    made = trainer(f"mixup={mixup}", f"precision={precision}")
    monkeypatch.setattr(made, "_check_finite", lambda: None)  # at the epoch's end, where the log needs it
    batches = list(made.data.train_batches(50, False, made.seed, 1))  # an epoch's order is moved once
    monkeypatch.setattr(made.data, "train_batches", lambda *args, **view: (batch for batch in batches))
    torch.cuda.set_sync_debug_mode("error")
    try:
        made.train_epoch(_SilentBar())
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_pixels_are_looked_at_until_a_batch_has_passed():
    mixer = InputMixup(num_classes=10)
    images, labels = torch.rand(50, 3, 32, 32, device="cuda"), torch.arange(50, device="cuda") % 10
    for _ in range(2):
        with pytest.raises(InputError, match="normalise inside the network"):
            mixer(None, 4 * images - 2, labels)
    mixer(None, images, labels)
    torch.cuda.set_sync_debug_mode("error")
    try:
        mixer(None, 4 * images - 2, labels)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("mixup", METHODS)
def test_deterministic_runs_of_one_seed_are_equal_in_every_bit(trainer, mixup):
    first, second = (trainer(f"mixup={mixup}", "deterministic=true").network.state_dict() for _ in range(2))
    assert all(torch.equal(first[key], value) for key, value in second.items())


class _SilentBar:
    def show_step(self, epoch, loss):
        """Nothing is shown, since a loss would be waited for."""
