"""What tests share: the golden vectors (`golden/README.md`), and the scripts run for real on tiny settings."""

import importlib.util
import json
import os
import pty
import shutil
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import hydra
import numpy as np
import pytest
import torch
import torch.nn.functional as F

os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels for a GPU run on the CPU; triton looks at it when imported

GOLDEN = Path(__file__).parent / "golden"


# Made once by real processes, which takes long: all tests with one of them go to one of pytest-xdist's workers.
COSTLY = ("trained", "one_node", "stopped", "sweep_of_jobs", "swept", "two_processes", "ranks")


def pytest_itemcollected(item):
    if costly := [name for name in COSTLY if name in item.fixturenames]:
        item.add_marker(pytest.mark.xdist_group(costly[0]))


@pytest.fixture
def golden():
    """`golden("mix_tiny_b2")`: arrays as tensors, `meta` as a namespace, images (B, 3, H, W) in [0, 1]."""

    def load(name):
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            vectors = {k: torch.from_numpy(arrays[k]) for k in arrays.files if k != "meta"}
            vectors["meta"] = SimpleNamespace(**json.loads(str(arrays["meta"])))
        images = vectors["images"].permute(0, 3, 1, 2).float() / 255
        vectors["images"] = images.contiguous()  # narrow networks and channels_last: see arithmetic.py
        return vectors

    return load


SCRIPTS = Path(__file__).parents[1] / "scripts"
CONFIGS = SCRIPTS.parent / "configs"

# A run of about a second: few images, few channels, no attack, no picture.
TINY = (
    "dataset.train_per_class=4",
    "network.initial_channels=4",
    "recipe.epochs=2",
    "recipe.batch_size=20",
    "attack=none",
    "logger.mixed_every=0",
    "device=cpu",
)


@pytest.fixture
def script(monkeypatch):
    """`script("train", "mixup=input")`: run a script's command in this process."""

    def run(name, *arguments):
        monkeypatch.setattr("sys.argv", [f"{name}.py", *arguments])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
        monkeypatch.syspath_prepend(SCRIPTS)  # as Python itself does
        path = SCRIPTS.parent / "benchmarks" / "__main__.py" if name == "benchmarks" else SCRIPTS / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"scripts_{name}", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        module.main()

    return run


@pytest.fixture
def train(script, tmp_path):
    """`train("mixup=input")`: a tiny run below `tmp_path`; gives its folder."""

    def run(*overrides):
        script("train", *TINY, f"results_dir={tmp_path}", "name=run", *overrides)
        return tmp_path / "run" / "seed0"

    return run


# Batch norm statistics differ between processes within an epoch, and the saliency pass uses them.
OF_TWO_PROCESSES = (*TINY, "mixup=puzzlemix", "dataset.train_per_class=20", "recipe.epochs=3")


@pytest.fixture(scope="session")
def one_node(tmp_path_factory):
    """A run by two processes of one node that nothing happened to: its folder, and what it told and showed."""
    folder = tmp_path_factory.mktemp("one_node") / "run" / "seed0"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = [str(SCRIPTS / "train.py"), *OF_TWO_PROCESSES, f"results_dir={folder.parents[1]}", "name=run"]
    told, shown = on_a_terminal([*launcher, *script])
    return SimpleNamespace(folder=folder, told=told, shown=shown)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of four runs, of two methods with two seeds each."""
    folder = tmp_path_factory.mktemp("trained")
    sweep = ["-m", "mixup=vanilla,puzzlemix", "seed=0,1", "attack=fgsm", f"results_dir={folder}"]
    overrides = [override for override in TINY if not override.startswith(("attack", "logger"))]
    subprocess.run([sys.executable, str(SCRIPTS / "train.py"), *sweep, *overrides], check=True, stdout=subprocess.PIPE)
    return folder


@pytest.fixture
def runs(trained, tmp_path):
    """A copy of those runs, to do anything with."""
    return shutil.copytree(trained, tmp_path / "runs")


@pytest.fixture
def hydra_configs():
    """Hydra as a script has it."""
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield


HELD_OUT = slice(1200, 1500)  # of the small digits


@pytest.fixture(scope="session")
def digits():
    """The 8 x 8 digits: images in [0, 1] and labels."""
    from sklearn.datasets import load_digits  # here, as those below: only some tests need them

    grey, y = load_digits(return_X_y=True)
    return torch.from_numpy(grey).float().view(-1, 1, 8, 8) / 16, torch.from_numpy(y)


@pytest.fixture(scope="session")
def network(digits):
    """Trained on 1,200 digits in about a second, in eval mode."""
    from puzzlemix.networks import preactresnet18

    torch.manual_seed(0)
    images, labels = (data[:1200] for data in digits)
    network = preactresnet18(10, 4, mean=[0.3], std=[0.38])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        for batch in torch.randperm(1200).split(50):
            optimizer.zero_grad()
            F.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
    optimizer.zero_grad()
    return network.eval()


@pytest.fixture(scope="session")
def held_out(digits):
    images, labels = digits
    return images[HELD_OUT], labels[HELD_OUT]


@pytest.fixture(scope="session")
def data(digits, tmp_path_factory):
    """The same images as a dataset, in 256 values: 300 test images."""
    from puzzlemix.data.arrays import ArrayData

    root = tmp_path_factory.mktemp("data")
    (root / "small").mkdir()
    x, y = (digits[0] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy(), digits[1].numpy().astype(np.int64)
    for split, part in (("train", slice(1200)), ("test", HELD_OUT)):
        classes = np.array([str(label) for label in range(10)])
        np.savez(root / "small" / f"{split}.npz", x=x[part], y=y[part], classes=classes)
    data = ArrayData("small", 10, (8, 8), (0.3,), (0.38,), root=str(root))
    data.load(torch.device("cpu"))
    return data


def on_a_terminal(command):
    """Run a command to its good end; what it wrote to stdout, and what to stderr, a terminal."""
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 150))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, text=True)
    os.close(terminal)
    shown = read_to_end(master)
    told, _ = process.communicate()
    assert process.returncode == 0, shown[-3000:]
    return told, shown


def read_to_end(descriptor):
    """All that a terminal was sent; its end is an error on Linux."""
    chunks = []
    with suppress(OSError):
        while chunk := os.read(descriptor, 65536):
            chunks.append(chunk)
    os.close(descriptor)
    return b"".join(chunks).decode()
