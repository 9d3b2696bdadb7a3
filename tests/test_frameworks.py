"""The examples in other people's frameworks, run for real on small random images."""

import importlib.util
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from conftest import SCRIPTS
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset
from torchvision.transforms.functional import to_pil_image

from puzzlemix import PuzzleMix
from puzzlemix.mixing.models import scores_of

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # those of the frameworks

K = 4
LEARNING_RATE = 0.1
PARTS = {"lightning": 2, "transformers": 2, "accelerate": 2, "ignite": 2, "fastai": 1}  # batches in a step
LOOPS = ("torch", *PARTS, "timm")
CLEAN = {"num_classes": K, "clean_lam": 1.0, "loss": "soft_cross_entropy"}


@pytest.fixture(scope="module")
def examples():
    spec = importlib.util.spec_from_file_location("frameworks", SCRIPTS.parent / "examples" / "in_your_framework.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data():
    """32 images and labels: the class is the quadrant that is bright."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(32) % K
    bright = F.one_hot(labels, K).float().view(-1, 1, 2, 2)  # (B, 1, 2, 2)
    images = 0.5 * torch.rand(32, 3, 16, 16, generator=generator) + 0.5 * F.interpolate(bright, size=(16, 16))
    return TensorDataset(images, labels)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(256, K))


@pytest.fixture
def vit():
    """A model of transformers: it returns an output with logits, and takes any keyword."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.ViTConfig(image_size=16, patch_size=4, num_labels=K, hidden_dropout_prob=0.0, **sizes)
    return transformers.ViTForImageClassification(config)


@pytest.fixture
def train(examples, tmp_path):
    """`train("ignite", model, dataset, batch_size, mix, epochs)`: run an example, give what it returns."""

    def run(name, model, dataset, batch_size, mix, epochs=1):
        pytest.importorskip(name)
        loop = getattr(examples, f"with_{name}")
        if name != "transformers":
            return loop(model, DataLoader(dataset, batch_size), mix, epochs)
        from transformers import TrainingArguments

        dicts = [{"pixel_values": image, "labels": label} for image, label in dataset]
        sizes = {"per_device_train_batch_size": batch_size, "gradient_accumulation_steps": PARTS[name]}
        steps = {"optim": "sgd", "learning_rate": LEARNING_RATE, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}
        off = {"report_to": "none", "save_strategy": "no", "remove_unused_columns": False}
        arguments = TrainingArguments(tmp_path, num_train_epochs=epochs, **sizes, **steps, **off)
        return loop(model, dicts, mix, arguments)

    return run


class Recording(PuzzleMix):
    """Puzzle Mix that keeps what it was given and what it gave."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seen = []

    def __call__(self, model, images, labels, **given):
        mixed, targets = super().__call__(model, images, labels, **given)
        self.seen.append([values.cpu() for values in (images, labels, mixed, targets)])
        return mixed, targets


def loss_of(model, dataset):
    model = model.cpu()
    with torch.no_grad():
        return F.cross_entropy(scores_of(model(dataset.tensors[0])), dataset.tensors[1]).item()


def wanted_gradients(model, seen):
    """The gradients of the mean loss of the recorded batches, each mixed and clean, by autograd alone."""
    losses = [
        F.cross_entropy(scores_of(model(mixed)), targets) + F.cross_entropy(scores_of(model(images)), labels)
        for images, labels, mixed, targets in seen
    ]
    return torch.autograd.grad(torch.stack(losses).mean(), [*model.parameters()])


def step_between(before, after):
    """The gradients with which SGD came from one model to the other in one step."""
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return tuple((old - new.cpu()) / LEARNING_RATE for old, new in pairs)


@pytest.mark.parametrize("name", LOOPS)
def test_the_loss_falls(train, model, data, name):
    before, mix = loss_of(model, data), PuzzleMix(num_classes=K)
    train(name, model, data, 8, mix, epochs=6)
    assert loss_of(model, data) < 0.7 * before
    assert mix.last["mask"].shape[0] == 8


@pytest.mark.parametrize("name", PARTS)
def test_a_step_has_the_gradient_of_mixed_and_clean_images(train, model, data, name):
    before, mix = deepcopy(model), Recording(**CLEAN)
    mix.draws.seed(0, 0)
    train(name, model, data, len(data) // PARTS[name], mix)
    assert len(mix.seen) == PARTS[name]
    assert not any(torch.equal(mixed, images) for images, _, mixed, _ in mix.seen)
    torch.testing.assert_close(step_between(before, model), wanted_gradients(before, mix.seen), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_compiled_model_in_lightning_has_the_same_step(train, model, data, in_place):
    before, mix = deepcopy(model), Recording(**CLEAN)
    compiled = model if in_place else torch.compile(model, backend="eager")
    if in_place:
        model.compile(backend="eager")
    train("lightning", compiled, data, 16, mix)
    torch.testing.assert_close(step_between(before, model), wanted_gradients(before, mix.seen), rtol=1e-4, atol=1e-5)


def test_a_model_of_transformers_takes_the_mean_of_accumulated_batches(train, vit, data):
    before, mix = deepcopy(vit), Recording(**CLEAN)
    trainer = train("transformers", vit, data, 16, mix)
    assert trainer.model_accepts_loss_kwargs  # else there would be nothing to show
    torch.testing.assert_close(step_between(before, vit), wanted_gradients(before, mix.seen), rtol=1e-3, atol=1e-5)


def test_evaluation_in_transformers_is_not_mixed(train, vit, data):
    mix = PuzzleMix(num_classes=K)
    trainer = train("transformers", vit, data, 8, mix)
    assert mix.last
    assert trainer.evaluate()["eval_loss"] == pytest.approx(loss_of(vit, data), abs=1e-5)
    assert not mix.last


def test_evaluation_in_fastai_is_not_mixed(train, model, data):
    learner = train("fastai", model, data, 8, PuzzleMix(num_classes=K))
    assert learner.validate()[0] == pytest.approx(loss_of(model, data), abs=1e-5)


def test_accelerate_goes_on_with_the_same_draws(train, model, data, tmp_path):
    mix = PuzzleMix(num_classes=K)
    train("accelerate", model, data, 8, mix).save_state(tmp_path)
    wanted = [mix.draw(data.tensors[0], {}) for _ in range(3)]
    resumed = PuzzleMix(num_classes=K)
    train("accelerate", model, data, 16, resumed).load_state(tmp_path)
    for draw in wanted:
        torch.testing.assert_close(resumed.draw(data.tensors[0], {}), draw)


def test_the_plain_loop_averages_its_steps(train, model, data):
    after_one_step = deepcopy(model)
    train("torch", after_one_step, Subset(data, range(16)), 8, PuzzleMix(num_classes=K))
    average = train("torch", model, data, 8, PuzzleMix(num_classes=K))
    for mean, *steps in zip(*(net.parameters() for net in (average, after_one_step, model)), strict=True):
        assert not torch.equal(*steps)
        torch.testing.assert_close(mean, 0.9 * steps[0] + 0.1 * steps[1])


def test_timm_trains_on_its_own_loader(train, examples, data, tmp_path):
    timm = pytest.importorskip("timm")
    for number, (image, label) in enumerate(data):
        (folder := tmp_path / f"class{label}").mkdir(exist_ok=True)
        to_pil_image(image).save(folder / f"{number}.png")
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=K, img_size=32)
    normal = {name: timm.data.resolve_model_data_config(model)[name] for name in ("mean", "std")}
    dataset = timm.data.create_dataset("", root=tmp_path)
    options = {"is_training": True, "re_prob": 0.5, "re_mode": "pixel", "num_workers": 0, "device": torch.device("cpu")}
    loader = timm.data.create_loader(dataset, (3, 32, 32), len(data), **options, **normal)
    start, mix = deepcopy(model), Recording(**CLEAN, **normal)
    average = examples.with_timm(model, loader, mix)
    wanted = wanted_gradients(start, mix.seen)  # the gradients of the last step are still there, unscaled
    for found, gradient in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(found.grad, gradient, rtol=1e-3, atol=1e-5)
    assert any(not torch.equal(mean, old) for mean, old in zip(average.parameters(), start.parameters(), strict=True))


def test_the_program_trains_in_each_framework(examples):
    assert min(examples.main(epochs=1).values()) > 0.3
