"""What tests share: the golden vectors (`golden/README.md`), and the scripts run for real on tiny settings."""

import importlib.util
import json
import multiprocessing
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import termios
from contextlib import contextmanager, redirect_stderr, suppress
from functools import partial
from itertools import count
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import hydra
import numpy as np
import pytest
import torch
import torch.nn.functional as F

os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels for a GPU run on the CPU; triton looks at it when imported

GOLDEN = Path(__file__).parent / "golden"


# Made once, which takes long: all tests with one of them go to one of pytest-xdist's workers.
COSTLY = ("two_processes", "trained", "sweep_of_jobs", "sdist")


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


def run_script(patch, name, *arguments):
    """Run a script's command in this process, with a `pytest.MonkeyPatch` that undoes what it changes."""
    patch.setattr("sys.argv", [f"{name}.py", *arguments])
    patch.setenv("HYDRA_FULL_ERROR", "1")
    patch.syspath_prepend(SCRIPTS)  # as Python itself does
    path = SCRIPTS.parent / "benchmarks" / "__main__.py" if name == "benchmarks" else SCRIPTS / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", path)
    module = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    module.main()


def tiny_run(folder, *overrides):
    """Train a tiny run below `folder`, for fixtures that outlive a test; gives the run's folder."""
    with pytest.MonkeyPatch.context() as patch:
        run_script(patch, "train", *TINY, f"results_dir={folder}", "name=run", *overrides)
    return folder / "run" / "seed0"


@pytest.fixture
def script(monkeypatch):
    """`script("train", "mixup=input")`: run a script's command in this process."""
    return partial(run_script, monkeypatch)


@pytest.fixture
def train(script, tmp_path):
    """`train("mixup=input")`: a tiny run below `tmp_path`; gives its folder."""

    def run(*overrides):
        script("train", *TINY, f"results_dir={tmp_path}", "name=run", *overrides)
        return tmp_path / "run" / "seed0"

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of a tiny run, to read."""
    return tiny_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of that run, where `train()` would have made it, to do anything with."""
    return shutil.copytree(finished, tmp_path / "run" / "seed0")


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of four runs, of two methods with two seeds each."""
    folder = tmp_path_factory.mktemp("trained")
    overrides = [override for override in TINY if not override.startswith(("attack", "logger"))]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        sweep = ["-m", "mixup=vanilla,puzzlemix", "seed=0,1", "attack=fgsm", f"results_dir={folder}"]
        run_script(patch, "train", *sweep, *overrides)
    return folder


@pytest.fixture
def runs(trained, tmp_path):
    """A copy of those runs, to do anything with."""
    return shutil.copytree(trained, tmp_path / "runs")


# Batch norm statistics differ between processes within an epoch, and the saliency pass uses them.
OF_TWO_PROCESSES = (
    *(override for override in TINY if not override.startswith("attack=")),
    *("attack=fgsm", "mixup=puzzlemix", "dataset.train_per_class=20", "recipe.epochs=3"),
)
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


@pytest.fixture(scope="session")
def two_processes(tmp_path_factory):
    """The folder in which two processes have done all that `two_processes.py` says, and where they wrote to.

    They are started a second time, since one of them is killed, and end in an error.
    """
    folder = tmp_path_factory.mktemp("two_processes")
    launcher = [*TORCHRUN, "--max-restarts=1", f"--log-dir={folder}/logs", "--redirects=3"]
    program = Path(__file__).with_name("two_processes.py")
    done = subprocess.run([*launcher, program, folder], capture_output=True, text=True, timeout=280, check=False)
    errors = [path.read_text()[-2000:] for path in sorted(folder.glob("logs/*/*/*/stderr.log"))]
    assert (folder / "damaged_image").is_file(), "\n".join([*errors, done.stderr[-2000:]])
    return folder


@pytest.fixture(scope="session")
def one_node(two_processes):
    """The folder of a run by two processes of one node that nothing happened to."""
    return two_processes / "one_node" / "seed0"


def at_step(patch, number, act):
    """Call `act` in a step of the next training, the first one's number being 1, when its weights are updated."""
    from puzzlemix.training.state import EpochSums  # here, since triton looks at the environment when it is imported

    add, steps = EpochSums.add, count(1)

    def add_and_act(*given):
        add(*given)
        if next(steps) == number:
            act()

    patch.setattr(EpochSums, "add", add_and_act)


def log_of(folder):
    """The lines of a run's log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@contextmanager
def held_by_another_process(folder):
    """A process that has a run's folder, until it is killed."""
    from puzzlemix.training.log import lock_folder

    def hold(told):
        lock = lock_folder(folder)
        told.send("locked")
        signal.pause()
        lock.close()

    asked, told = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=hold, args=(told,))
    process.start()
    assert asked.recv() == "locked"
    try:
        yield process
    finally:
        process.kill()
        process.join()


@contextmanager
def full_disk(largest_bytes):
    """No file grows beyond that: the system's write fails as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


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
    data = ArrayData(name="small", num_classes=10, image_size=(8, 8), mean=(0.3,), std=(0.38,), root=str(root))
    data.load(torch.device("cpu"))
    return data


@contextmanager
def on_a_terminal():
    """Make stderr a terminal; the list that this gives has what was sent there, once it has ended."""
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 150))
    shown = []
    reader = Thread(target=lambda: shown.append(read_to_end(master)))
    reader.start()
    with os.fdopen(terminal, "w") as stderr, redirect_stderr(stderr):
        yield shown
    reader.join()


def read_to_end(descriptor):
    """All that a terminal was sent; its end is an error on Linux."""
    chunks = []
    with suppress(OSError):
        while chunk := os.read(descriptor, 65536):
            chunks.append(chunk)
    os.close(descriptor)
    return b"".join(chunks).decode()
