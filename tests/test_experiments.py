"""Every experiment file composes, is instantiated, and takes a step on tiny data: a new file is tested by existing."""

import math

import hydra
import numpy as np
import pytest
import torch
from conftest import CONFIGS
from omegaconf import OmegaConf
from pictures import crops, write_class_folders

from puzzlemix.cli.config import build, plain
from puzzlemix.runtime import distributed
from puzzlemix.runtime.errors import InputError
from puzzlemix.training.log import RunLog
from puzzlemix.training.loop import Trainer
from puzzlemix.training.progress import ProgressBar
from puzzlemix.training.settings import fingerprint

EXPERIMENTS = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))
CLASSES = 4  # instead of 100, 200 or 1000


def compose(*overrides):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("train", [*overrides, "choices.network=any", "choices.mixup=any"])


def write_arrays(folder, size):
    folder.mkdir(parents=True)
    labels = np.arange(2 * CLASSES) % CLASSES
    for seed, split in enumerate(("train", "test")):
        x = crops(len(labels), size, seed)
        np.savez(folder / f"{split}.npz", x=x, y=labels, classes=np.array([f"class{i}" for i in range(CLASSES)]))


def write_folders(folder):
    for split in ("train", "val", "train_160", "train_352", "val_352"):
        write_class_folders(folder / split, [f"n{label}" for label in range(CLASSES)], 2, (180, 240))


def shrunk(experiment, root):
    """The experiment with few classes, few channels and batches of four, on data written below `root`."""
    config = compose(f"experiment={experiment}")
    assert config.name == experiment
    OmegaConf.set_struct(config, False)
    folders = config.dataset.name == "imagenet"
    if folders:
        write_folders(root / "imagenet")
        config.dataset.workers = 0
    else:
        write_arrays(root / config.dataset.name, tuple(config.dataset.image_size))
    config.dataset.update(root=str(root), num_classes=CLASSES, train_images=None, test_images=None)
    config.recipe.batch_size = 4
    for phase in config.recipe.phases:
        phase.batch_size = 4
    if "initial_channels" in config.network:
        config.network.initial_channels = 4
    elif "widen_factor" in config.network:
        config.network.update(depth=10, widen_factor=1)
    return plain(OmegaConf.merge(config, {"results_dir": str(root / "runs"), "name": experiment}))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_it_takes_a_step(experiment, tmp_path):
    config = shrunk(experiment, tmp_path)
    data, network, mixer, recipe = build(config)
    data.load(torch.device("cpu"))
    before = {name: value.clone() for name, value in network.named_parameters()}
    trainer = Trainer(network, mixer, data, recipe, RunLog(config))
    with ProgressBar(experiment, recipe.epochs, first_epoch=0) as bar:
        trainer.train_epoch(bar)
    sums = trainer.state.sums.means()
    assert sums["images"] == 2 * CLASSES
    assert 0 < sums["train_loss"] < math.inf
    assert all(not torch.equal(before[name], value) for name, value in network.named_parameters() if value.ndim > 1)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_its_header_says_what_it_reproduces(experiment):
    text = (CONFIGS / "experiment" / f"{experiment}.yaml").read_text()
    assert f"# Run: python scripts/train.py experiment={experiment} seed=0" in text
    assert "# Table: " in text
    assert "# Expected: " in text


RECIPES = {  # epochs, lr, milestones: the rows of the release's README commands
    "cifar100_preactresnet18_vanilla": (1200, 0.1, [400, 800]),
    "cifar100_preactresnet18_puzzlemix_half": (600, 0.2, [350, 500]),
    "cifar100_wrn28_10_puzzlemix": (400, 0.1, [200, 300]),
    "cifar100_wrn28_10_puzzlemix_half": (200, 0.2, [120, 170]),
    "tiny_imagenet_preactresnet18_puzzlemix": (1200, 0.2, [600, 900]),
    "tiny_imagenet_preactresnet18_puzzlemix_adversarial_half": (600, 0.2, [300, 450]),
    "imagenet_resnet50_puzzlemix_300": (300, 0.1, [75, 150, 225]),
    "cifar100_wrn28_10_puzzlemix_adversarial_half": (200, 0.2, [120, 170]),
    "cifar100_preactresnet18_puzzlemix_300": (300, 0.2, [100, 200]),  # of SAGE
    "cifar100_wrn16_8_vanilla_300": (300, 0.2, [100, 200]),
}


@pytest.mark.parametrize("experiment", RECIPES)
def test_schedules_are_the_releases(experiment):
    recipe = compose(f"experiment={experiment}").recipe
    assert (recipe.epochs, recipe.lr, list(recipe.lr_milestones_epochs)) == RECIPES[experiment]


def test_mixing_parameters_are_the_releases():
    tiny = compose("experiment=tiny_imagenet_preactresnet18_puzzlemix_adversarial").mixup
    assert (tiny.clean_lam, tiny.adv_p, tiny.adv_eps, tiny.t_size, tiny.beta) == (1.0, 0.15, 10.0, None, 1.2)
    cifar = compose("experiment=cifar100_wrn28_10_puzzlemix_adversarial").mixup
    assert (cifar.clean_lam, cifar.adv_p, cifar.adv_eps, cifar.t_size, cifar.neigh_size) == (0.0, 0.1, 10.0, 4, 4)
    fast = compose("experiment=imagenet_resnet50_puzzlemix_fast")
    assert (fast.mixup.beta, fast.mixup.neigh_size, fast.mixup.clean_until_epoch) == (1.5, 2, 40)
    assert (fast.mixup.clean_lam, fast.mixup.loss) == (1.0, "soft_cross_entropy")
    assert not fast.recipe.nesterov
    assert not fast.recipe.decay_batch_norm
    alphas = {
        m: compose(f"experiment=cifar100_preactresnet18_{m}").mixup.alpha for m in ("input", "manifold", "cutmix")
    }
    assert alphas == {"input": 1.0, "manifold": 2.0, "cutmix": 1.0}
    assert compose("experiment=tiny_imagenet_preactresnet18_cutmix").mixup.alpha == 0.2


def test_ablations_are_those_of_tables_6_to_8():
    wrn = {name: compose(f"experiment=cifar100_wrn28_10_puzzlemix{name}").mixup for name in ("", "_adversarial")}
    changed = {
        "_binary": ("", {"n_labels": 2}),
        "_mask_only": ("", {"transport": False}),
        "_adversarial_no_decay": ("_adversarial", {"adv_decay": False}),
        "_adversarial_shared_coin": ("_adversarial", {"adv_shared_coin": True}),
    }
    for name, (base, options) in changed.items():
        mixup = compose(f"experiment=cifar100_wrn28_10_puzzlemix{name}").mixup
        assert {key: value for key, value in mixup.items() if value != wrn[base][key]} == options
    aug = compose("experiment=cifar100_wrn28_10_puzzlemix_aug").mixup
    assert aug._target_ == "puzzlemix.mixing.AugmentedPuzzleMix"
    assert {**aug.augmentation}.items() >= {"severity": 3, "width": 3, "depth": -1, "alpha": 1.0}.items()


def test_tiny_imagenet_is_attacked_with_the_papers_fgsm():
    for path in (CONFIGS / "experiment").glob("tiny_imagenet_*.yaml"):
        assert {"fgsm4", "fgsm8", "pgd7_eps8"} <= set(compose(f"experiment={path.stem}").attack)


NEED_CLIPPED = {"augmix", "pgd_training", "puzzlemix_adversarial", "puzzlemix_aug", "puzzlemix_pgd"}


@pytest.mark.parametrize("mixup", sorted(path.stem for path in (CONFIGS / "mixup").glob("*.yaml")))
@pytest.mark.parametrize("option", ["color_jitter", "lighting"])
def test_methods_take_colours_that_are_not_clipped_or_refuse_them_before_training(mixup, option):
    config = plain(compose("name=any", "dataset=imagenet", f"mixup={mixup}", f"dataset.{option}=0.1"))
    if mixup in NEED_CLIPPED:
        with pytest.raises(InputError, match=r"needs pixels in \[0, 1\], but imagenet's are not clipped: set"):
            build(config)
        return
    _, network, mixer, _ = build(config)
    images = 3 * torch.rand(4, 3, 32, 32) - 1
    mixed, _ = mixer(network, images, torch.arange(4))
    assert mixed.min() < -0.5
    assert mixed.max() > 1.5


def test_imagenet_is_seen_as_in_the_release():
    slow, fast = (compose(f"experiment=imagenet_resnet50_puzzlemix_{recipe}").dataset for recipe in ("300", "fast"))
    assert (slow.color_jitter, slow.lighting, slow.test_resized_to) == (0.4, 0.1, None)
    assert (fast.color_jitter, fast.lighting, fast.test_resized_to) == (0, 0, 352)


def test_where_the_data_lies_and_who_reads_it_is_no_other_experiment():
    here, there, other = (
        plain(compose("name=any", "dataset=imagenet", "recipe=imagenet_300", *overrides))
        for overrides in ((), ("dataset.root=/elsewhere", "dataset.workers=2", "seed=3"), ("dataset.lighting=0.1",))
    )
    assert fingerprint(here) == fingerprint(there) != fingerprint(other)


def test_checkpoints_of_many_processes_build_on_any_number(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 3)  # which does not divide a batch of 50
    assert build(plain(compose("name=any"))).network is not None


@pytest.mark.parametrize("network", sorted(path.stem for path in (CONFIGS / "network").glob("*.yaml")))
def test_every_network_of_the_configs_maps_images_to_logits(network):
    config = plain(compose(f"network={network}", "name=any"))
    built = build(config).network.eval()
    with torch.no_grad():
        assert built(torch.rand(2, 3, 32, 32)).shape == (2, 10)
