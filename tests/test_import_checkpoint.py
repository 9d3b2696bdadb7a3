"""Files of the authors' releases become checkpoints of ours; of those that would run anything, nothing is run."""

import contextlib
import importlib
import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import CONFIGS, SCRIPTS
from torch import nn

from puzzlemix.checkpoint import load_checkpoint
from puzzlemix.data.digits import Digits
from puzzlemix.errors import InputError
from puzzlemix.experiment import build, load_experiment
from puzzlemix.foreign_checkpoint import read_foreign
from puzzlemix.foreign_objects import Inert, StoredArray
from puzzlemix.foreign_pickle import read_pickle
from puzzlemix.networks import preactresnet18, wide_resnet

CIFAR100 = {"mean": (0.507059, 0.486667, 0.440784), "std": (0.267451, 0.256471, 0.276078)}
DIGITS = {"mean": (0.305,) * 3, "std": (0.323,) * 3}
FORMATS = {"zip": True, "legacy": False}
AUTHORS_MODULE = """
import os
import numpy

class RecorderMeter(object):
    def __init__(self, total_epoch):
        self.total_epoch, self.current_epoch = total_epoch, 0
        self.epoch_losses = numpy.zeros((total_epoch, 2), dtype=numpy.float32) - 1
        self.epoch_accuracy = numpy.zeros((total_epoch, 2), dtype=numpy.float32)

    def record(self, losses, accuracies):
        self.epoch_losses[self.current_epoch] = losses
        self.epoch_accuracy[self.current_epoch] = accuracies
        self.current_epoch += 1

def run(command):
    os.system(command)
"""


@contextlib.contextmanager
def authors_module(folder, name):
    """The authors' module as it is where they save: afterwards it is gone, as it is here."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(AUTHORS_MODULE)
    before = sys.modules.pop(name, None)
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before


def trained_in_parallel(network):
    """What main.py has after a step: the network in DataParallel with statistics, and its optimiser with momentum."""
    parallel = nn.DataParallel(network)
    optimizer = torch.optim.SGD(parallel.parameters(), 0.01, momentum=0.9, weight_decay=1e-4, nesterov=True)
    for norm in [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.num_batches_tracked += 1
    for parameter in parallel.parameters():
        parameter.grad = 0.01 * torch.randn_like(parameter)
    optimizer.step()
    return parallel, optimizer


@pytest.fixture
def release(tmp_path):
    """`release(network)`: a file as main.py of the release saves it. Keywords replace what it holds, or go to torch."""

    def save(network, module="logger", name="checkpoint.pth.tar", changes=(), **of_torch):
        parallel, optimizer = trained_in_parallel(network)
        with authors_module(tmp_path / "authors", module) as authors:
            recorder = authors.RecorderMeter(5)
            for accuracy in (30.25, 62.5, 61.0):
                recorder.record((1.5, 1.25), (accuracy / 2, accuracy))
            content = {
                "epoch": 4,
                "arch": "preactresnet18",
                "state_dict": parallel.state_dict(),
                "recorder": recorder,
                "optimizer": optimizer.state_dict(),
            }
            torch.save({**content, **dict(changes)}, tmp_path / name, **of_torch)
        return tmp_path / name

    return save


@pytest.fixture
def bring(script, tmp_path, monkeypatch, capsys):
    """`bring(path, ...)`: the script, in this process, in an empty folder; gives what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(path, *arguments):
        capsys.readouterr()
        script("import_checkpoint", str(path), *arguments)
        return capsys.readouterr().out

    return run


def narrow(num_classes=10, **statistics):
    torch.manual_seed(0)
    return preactresnet18(num_classes, initial_channels=16, stride=2, **(statistics or DIGITS))


@pytest.fixture(scope="module")
def digits():
    """Test images, (500, 3, 32, 32), and labels."""
    data = Digits(train_per_class=1, name="digits", num_classes=10, image_size=[32, 32], **DIGITS)
    data.load(torch.device("cpu"))
    images, labels = zip(*data.test_batches([range(250), range(250, 500)]), strict=True)
    return SimpleNamespace(images=torch.cat(images), labels=torch.cat(labels))


def logits(network, images):
    with torch.no_grad():
        return network.eval()(images)


# What is imported.


@pytest.mark.parametrize(
    ("format_", "protocol", "module"),
    [("legacy", 2, "utils"), ("legacy", 4, "logger"), ("zip", 2, "logger"), ("zip", 4, "utils")],
)
def test_logits_are_those_of_the_network_that_was_saved(release, bring, digits, tmp_path, format_, protocol, module):
    network, images = narrow(), digits.images[:20]
    of_torch = {"_use_new_zipfile_serialization": FORMATS[format_], "pickle_protocol": protocol}
    path = release(network, module, **of_torch)
    assert module not in sys.modules or not hasattr(sys.modules[module], "RecorderMeter")
    told = bring(path, "--network", "preactresnet18_narrow", "--dataset", "digits")
    written = str(tmp_path / "models" / "checkpoint.pt")
    imported = load_experiment(written, CONFIGS, torch.device("cpu"), with_data=False)
    assert torch.equal(logits(imported.experiment.network, images), logits(network, images))
    assert imported.epochs is None
    assert module not in sys.modules or not hasattr(sys.modules[module], "RecorderMeter")
    assert told.splitlines() == [
        "claims: arch preactresnet18, epoch 4",
        "claims: 3 of 5 epochs recorded, accuracy 61.00 % after the last of them, best 62.50 % after 2",
        "models/checkpoint.pt",
    ]


def test_the_card_and_the_config_say_where_it_comes_from_and_what_nobody_knows(release, bring, tmp_path):
    path = release(narrow(), name="model_best.pth.tar")
    bring(path, "--network=preactresnet18_narrow", "--dataset=digits", "--output=kept/mine.pt")
    card = json.loads((tmp_path / "kept" / "mine.json").read_text())
    digest = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
    assert card["claims"] == {
        "arch": "preactresnet18",
        "epoch": 4,
        "recorded_epochs": 3,
        "total_epochs": 5,
        "last_accuracy": 61.0,
        "best_accuracy": 62.5,
        "best_accuracy_epochs": 2,
    }
    assert (card["network"], card["dataset"]) == ("preactresnet18_narrow", "digits")
    content = load_checkpoint(tmp_path / "kept" / "mine.pt")
    assert set(content) == {"config", "network"}
    said = {"file": "model_best.pth.tar", "sha256": digest, "does_not_say": ["mixup", "recipe", "seed"]}
    assert content["config"]["imported_from"] == said
    assert {key: card[key] for key in said} == said


LOG = """Random Seed: 0

==>>[2020-01-27 05:40:49] [Epoch=000/1200] [Need: 00:00:00] [learning_rate=0.1000] [Best : Accuracy=0.00, Error=100.00]
  **Train** Prec@1 3.124 Prec@5 11.798 Error@1 96.876
{tests}
FSGM attack (eps 8, step 8, iter: 1): 42.89
FSGM attack (eps 8, step 2, iter: 6): 7.13
FSGM attack (eps 8, step 2, iter: 7): 5.85
PGD attack (eps 8, step 2, iter: 6): 7.25
PGD attack (eps 8, step 2, iter: 7): 5.96
PGD attack (eps 8, step 2, iter: 8): 596
"""
TEST = "  **Test** Prec@1 {} Prec@5 23.730 Error@1 93.110 Loss: 4.092 \n"


def test_the_log_beside_it_is_told_too(release, bring, tmp_path):
    """As `checkpoint/preactresnet18/` of the release has both."""
    path = release(narrow())
    accuracies = [80.69, *(80 + i / 100 for i in range(9)), 80.34]
    path.with_name("log.txt").write_text(LOG.format(tests="".join(map(TEST.format, accuracies))))
    told = bring(path, "--network=preactresnet18_narrow", "--dataset=digits")
    claims = json.loads((tmp_path / "models" / "checkpoint.json").read_text())["claims"]
    assert {key: value for key, value in claims.items() if key.startswith("log_")} == {
        "log_seed": 0,
        "log_epochs": 11,
        "log_last": 80.34,
        "log_median10": pytest.approx(80.045),
        "log_best": 80.69,
        "log_under FGSM 8/255": 42.89,
        "log_under FGSM-7 8/255 (step 2)": 5.85,
        "log_under PGD-7 8/255 (step 2)": 5.96,
    }
    assert "claims: log.txt: 11 epochs, accuracy 80.34 % after the last, median of the last ten 80.0" in told
    assert "claims: log.txt: accuracy under PGD-7 8/255 (step 2) 5.96 %" in told
    (tmp_path / "models" / "checkpoint.pt").unlink()
    (tmp_path / "models" / "checkpoint.json").unlink()
    path.with_name("log.txt").write_bytes(b"\xff\x00 **Test** Prec@1 nonsense")
    assert "log.txt" not in bring(path, "--network=preactresnet18_narrow", "--dataset=digits")


def test_evaluate_takes_it(script, release, bring, digits, capsys):
    network = narrow()
    bring(release(network), "--network", "preactresnet18_narrow", "--dataset", "digits")
    script("evaluate", "checkpoint=models/checkpoint.pt", "attack=none", "device=cpu")
    wrong = logits(network, digits.images).argmax(1) != digits.labels
    assert f" {100 * wrong.double().mean():.2f} %" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("classes", "dataset", "stride"), [(10, "cifar10", 1), (100, "cifar100", 1), (200, "tiny_imagenet", 2)]
)
def test_dataset_and_stride_follow_from_the_classes(release, bring, tmp_path, classes, dataset, stride):
    """A stride changes no shape: a wrong one would load, and evaluate to nonsense."""
    path = release(wide_resnet(28, 2, classes, **CIFAR100))
    bring(path, "--network", "wrn28_2")
    config = load_checkpoint(tmp_path / "models" / "checkpoint.pt")["config"]
    assert (config["dataset"]["name"], config["network"]["stride"]) == (dataset, stride)
    assert build(config).network.normalize.mean.flatten().tolist() == pytest.approx(config["dataset"]["mean"])


def test_the_release_s_own_network_of_cifar100(release, bring, tmp_path):
    """In the format of torch 1.1, with which the release was written, from a GPU, by NumPy 1."""
    network = preactresnet18(100, **CIFAR100)
    path = release(network, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    assert b"numpy._core.multiarray" in data
    data = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    here, there = (b"X" + struct.pack("<I", len(device)) + device for device in (b"cpu", b"cuda:0"))
    assert here in data
    path.write_bytes(data.replace(here, there))
    bring(path, "--network", "preactresnet18")
    content = load_checkpoint(tmp_path / "models" / "checkpoint.pt")
    assert all(torch.equal(content["network"][name], value) for name, value in network.state_dict().items())
    assert content["network"].keys() == network.state_dict().keys()
    assert path.stat().st_size > 1.9 * (tmp_path / "models" / "checkpoint.pt").stat().st_size  # the momentum is gone


def test_names_without_data_parallel_and_tensors_cut_from_one(release, bring, tmp_path):
    network = narrow()
    together = torch.rand(128, 30)
    linear = {"linear.weight": together[:, 7:17].T, "linear.bias": together[3, :10]}
    path = release(narrow(), changes={"state_dict": {**network.state_dict(), **linear}})
    bring(path, "--network", "preactresnet18_narrow", "--dataset", "digits")
    output = tmp_path / "models" / "checkpoint.pt"
    content = load_checkpoint(output)
    for name, value in {**network.state_dict(), **linear}.items():
        assert torch.equal(content["network"][name], value)
    assert content["network"]["linear.bias"].untyped_storage().nbytes() == 40  # and not all that it was cut from


def test_claims_of_the_programs_for_imagenet(release, bring):
    of_imagenet = {
        "recorder": None,
        "epoch": 299,
        "arch": "resnet",
        "best_err1": 21.24,
        "best_prec1": torch.tensor(77.5),
    }
    told = bring(release(narrow(), changes=of_imagenet), "--network=preactresnet18_narrow", "--dataset=digits")
    assert told.splitlines()[:-1] == [
        "claims: arch resnet, epoch 299",
        "claims: best_err1 21.24 %",
        "claims: best_prec1 77.50 %",
    ]


def test_claims_that_are_none_are_left_out(release, bring):
    nonsense = {
        "recorder": [1],
        "epoch": "4",
        "arch": "\x1b[2J",
        "best_err1": float("nan"),
        "best_prec1": torch.ones(2),
    }
    told = bring(release(narrow(), changes=nonsense), "--network=preactresnet18_narrow", "--dataset=digits")
    assert told.splitlines() == ["claims: nothing", "models/checkpoint.pt"]


def test_objects_of_any_protocol_become_inert(tmp_path):
    with authors_module(tmp_path / "authors", "utils") as authors:
        recorder = authors.RecorderMeter(3)
        recorder.epoch_accuracy = np.asfortranarray(np.arange(6, dtype=np.float64).reshape(3, 2))
        pickles = [pickle.dumps([recorder, np.float32(0.5), b"\xff"], protocol) for protocol in (0, 1, 2, 3, 4)]
    for program in pickles:
        inert, half, raw = read_pickle(io.BytesIO(program)).content
        assert isinstance(inert, Inert)
        assert str(inert.of) == "utils.RecorderMeter"
        assert inert.attributes["total_epoch"] == 3
        assert inert.attributes["epoch_accuracy"].values().tolist() == [[0, 1], [2, 3], [4, 5]]
        assert (half, raw) in ((0.5, b"\xff"), (0.5, "\xff"))  # protocol 2 has no bytes


# What is refused.


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def program(code, command):
    """A pickle's bytes, with `COMMAND` for the command to the shell."""
    return code.replace(b"COMMAND", text(command)).replace(b"EVAL", text(f"__import__('os').system({command!r})"))


INERT = b"cutils\nRecorderMeter\n)\x81"
SYSTEM = b"cos\nsystem\n"
# Name: the pickle, what it is refused as, and whether Python's own unpickler would run the command.
MALICIOUS = {
    "call": (b"\x80\x02cposix\nsystem\nCOMMAND\x85R.", "posix.system", True),
    "call of protocol 4": (b"\x80\x04\x8c\x05posix\x8c\x06system\x93COMMAND\x85R.", "posix.system", True),
    "eval": (b"\x80\x02c__builtin__\neval\nEVAL\x85R.", "builtins.eval", True),
    "exec": (b"\x80\x02cbuiltins\nexec\nEVAL\x85R.", "builtins.exec", True),
    "getattr": (
        b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n" + text("os") + b"\x85R" + text("system") + b"tRCOMMAND\x85R.",
        "builtins.getattr",
        True,
    ),
    "INST": (b"(COMMANDios\nsystem\n.", "os.system", True),
    "OBJ": (b"(" + SYSTEM + b"COMMANDo.", "os.system", True),
    "NEWOBJ": (b"csubprocess\nPopen\nCOMMAND\x85\x81.", "subprocess.Popen", False),
    "NEWOBJ_EX": (b"\x80\x04csubprocess\nPopen\nCOMMAND\x85}\x92.", "subprocess.Popen", False),
    "dotted name of torch": (
        b"\x80\x04" + text("torch.serialization") + text("os.system") + b"\x93COMMAND\x85R.",
        "torch.serialization.os.system",
        True,
    ),
    "dotted name of the authors": (
        b"\x80\x04" + text("utils") + text("os.system") + b"\x93COMMAND\x85R.",
        "utils.os.system",
        True,
    ),
    "dotted name of an allowed one": (
        b"\x80\x04" + text("collections") + text("OrderedDict.fromkeys") + b"\x93COMMAND\x85R.",
        "collections.OrderedDict.fromkeys",
        False,
    ),
    "dotted name of the authors, not called": (
        b"\x80\x04" + INERT + b"}" + text("note") + text("utils") + text("os.system") + b"\x93sb.",
        "utils.os.system",
        False,
    ),
    "function of the authors": (b"cutils\nrun\nCOMMAND\x85R.", "utils.run", True),
    "class of the authors, called": (b"cutils\nRecorderMeter\nK\x03\x85R.", "utils.RecorderMeter", False),
    "set state": (
        INERT + b"}" + text("__setstate__") + SYSTEM + b"sbCOMMANDb.",
        "os.system",
        True,
    ),
    "set state to the authors' function": (
        INERT + b"}" + text("__setstate__") + b"cutils\nrun\nsbCOMMANDb.",
        "utils.RecorderMeter.__setstate__",
        True,
    ),
    "another class": (INERT + b"}" + text("__class__") + b"cutils\nrun\nsb.", "utils.RecorderMeter.__class__", False),
    "append": (INERT + b"}" + text("append") + SYSTEM + b"sbCOMMANDa.", "os.system", True),
    "within a recorder": (
        INERT + b"}" + text("epoch_accuracy") + SYSTEM + b"COMMAND\x85Rsb.",
        "os.system",
        True,
    ),
    "reconstructor": (
        b"ccopyreg\n_reconstructor\n(cutils\nRecorderMeter\ncbuiltins\ndict\n}tR.",
        "copyreg._reconstructor",
        False,
    ),
    "reconstructor of another class": (
        b"ccopyreg\n_reconstructor\n(csubprocess\nPopen\nc__builtin__\nobject\nNtR.",
        "subprocess.Popen",
        False,
    ),
    "codec": (b"c_codecs\nencode\n(COMMAND" + text("rot13") + b"tR.", "_codecs.encode", False),
    "partial": (b"cfunctools\npartial\n" + SYSTEM + b"COMMAND\x86R)R.", "functools.partial", True),
    "hub": (b"ctorch.hub\nload\n" + text("a/b") + text("c") + b"\x86R.", "torch.hub.load", False),
    "tensor of another type": (
        b"ctorch._tensor\n_rebuild_from_type_v2\n(" + SYSTEM + b"N(COMMANDtNtR.",
        "torch._tensor._rebuild_from_type_v2",
        False,
    ),
    "numpy": (b"cnumpy\nload\nCOMMAND\x85R.", "numpy.load", False),
    "numpy of old": (b"cnumpy.core.multiarray\nfromfile\nCOMMAND\x85R.", "numpy._core.multiarray.fromfile", False),
    "extension": (b"\x80\x02\x82\x01.", "number 1 of copyreg's extensions", False),
    "name to confuse a terminal": (
        b"\x80\x04" + text("os") + text("\x1b[2Jsystem\n") + b"\x93.",
        "os.?[2Jsystem?",
        False,
    ),
}


def in_zip(code):
    with io.BytesIO() as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", code)
        archive.writestr("archive/version", "3\n")
        archive.close()
        return file.getvalue()


def in_legacy(code):
    head = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}})
    return b"".join(pickle.dumps(value, 2) for value in head) + code + pickle.dumps([], 2)


CONTAINERS = {"zip": in_zip, "legacy": in_legacy, "a pickle alone": lambda code: code}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("case", MALICIOUS)
def test_what_would_run_is_refused_by_name_and_does_not_run(tmp_path, case, container):
    code, name, _ = MALICIOUS[case]
    path, marker = tmp_path / "file.pth.tar", tmp_path / "marker"
    path.write_bytes(CONTAINERS[container](program(code, f"touch {marker}")))
    modules = set(sys.modules)
    with authors_module(tmp_path / "authors", "utils"), pytest.raises(InputError) as error:
        read_foreign(path)
    assert str(error.value) == f"{path} would run {name}: refused, nothing was run"
    assert not marker.exists()
    assert set(sys.modules) - modules <= {"encodings.cp437"}  # in which zipfile reads names


@pytest.mark.parametrize("case", [case for case, (_, _, runs) in MALICIOUS.items() if runs])
def test_python_s_own_unpickler_would_have_run_it(tmp_path, case):
    """So the test above is one of real attacks."""
    marker = tmp_path / "marker"
    with authors_module(tmp_path / "authors", "utils"), contextlib.suppress(Exception):
        pickle.loads(program(MALICIOUS[case][0], f"touch {marker}"))
    assert marker.exists()


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_command_hidden_in_a_file_that_is_else_the_release_s(release, tmp_path, format_, protocol):
    path, marker = hidden_in(release, tmp_path, FORMATS[format_], protocol)
    with pytest.raises(InputError, match=r"would run posix\.system: refused, nothing was run"):
        read_foreign(path)
    assert not marker.exists()


def test_the_command_says_so_in_one_line_and_writes_nothing(release, tmp_path):
    path, marker = hidden_in(release, tmp_path, in_zip_format=True, protocol=2)
    command = [sys.executable, SCRIPTS / "import_checkpoint.py", path, "--network=preactresnet18_narrow"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {path} would run posix.system: refused, nothing was run\n"
    assert not marker.exists()
    assert not (tmp_path / "models").exists()


def hidden_in(release, tmp_path, in_zip_format, protocol):
    """A file of the release with a command to the shell in the recorder's state, and what it would make."""
    marker = tmp_path / "marker"

    class Hidden:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    with authors_module(tmp_path / "authors", "utils") as authors:
        recorder = authors.RecorderMeter(3)
        recorder.note = Hidden()
        of_torch = {"_use_new_zipfile_serialization": in_zip_format, "pickle_protocol": protocol}
        return release(narrow(), changes={"recorder": recorder}, **of_torch), marker


NESTED = b")" + b"2\x86" * 29  # a tuple of 2^29 empty ones, whose hash takes long; of some more, for ever
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\nFloatStorage\n"
BOMBS = {
    "a key": b"}" + NESTED + b"Ns.",
    "a function": NESTED + b")R.",
    "a class": NESTED + b")\x81.",
    "a module": b"\x80\x04" + NESTED + text("x") + b"\x93.",
    "a storage": b"(" + text("storage") + NESTED + text("0") + text("cpu") + b"K\x01tQ.",
    "a key of a storage": b"(" + text("storage") + b"ctorch\nFloatStorage\n" + NESTED + text("cpu") + b"K\x01tQ.",
    "bytes": b"cbuiltins\nbytes\n\x8a\x06" + (2**46).to_bytes(6, "little") + b"\x85R.",
    "a text": b"\x80\x04\x8d" + struct.pack("<Q", 2**46) + b"x.",
    "a state of a number": b"K\x01}b.",
    "a value of a number": b"K\x01K\x01a.",
    "a name of a number": b"\x80\x04K\x01K\x02\x93.",
    "an object array": b"cnumpy\ndtype\n" + text("O") + b"\x85R.",
    "nothing": b".",
    "a value of below the mark": b"K\x01(R.",
    "a negative stride": TENSOR + text("0") + text("cpu") + b"K\x01tQK\x00K\x01\x85J\xff\xff\xff\xff\x85\x89}tR.",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_and_nonsense_are_told_at_once(tmp_path, bomb):
    path, start = tmp_path / "file.pth.tar", time.monotonic()
    path.write_bytes(in_legacy(BOMBS[bomb]))
    with pytest.raises(InputError, match=r"is damaged or no checkpoint \(\w+.*\): get it anew"):
        read_foreign(path)
    assert time.monotonic() - start < 5


def test_a_compressed_archive_may_unfold_to_any_size(tmp_path):
    path = tmp_path / "file.pth.tar"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": "x" * 10**6}, 2))
    with pytest.raises(InputError, match="BadZipFile: compressed"):
        read_foreign(path)


def test_an_archive_whose_parts_overlap_may_unfold_to_any_size(release):
    path = release(narrow(), _use_new_zipfile_serialization=True)
    with zipfile.ZipFile(path, "a") as archive:
        part = next(part for part in archive.infolist() if part.filename.endswith("/data/0"))
        archive.filelist.extend([part] * 10_000)  # named again and again, at the same place in the file
        archive.writestr("end", "")
    with pytest.raises(InputError, match="compressed or overlapping"):
        read_foreign(path)


@pytest.mark.parametrize("function", ["torch\nSize", "_codecs\nencode", "torch._utils\n_rebuild_tensor_v2"])
def test_calls_that_would_copy_without_end_do_not(tmp_path, function):
    """A large value, called with again and again: each call of a few bytes would be a copy of it."""
    large = {
        "torch\nSize": b"(" + b"K\x01" * 100_000 + b"t\x85",
        "_codecs\nencode": text("a" * 100_000) + text("latin1") + b"\x86",
        "torch._utils\n_rebuild_tensor_v2": b"(NK\x00(" + b"K\x01" * 100_000 + b"t(K\x01t\x89Nt",
    }[function]
    call = b"c" + function.encode() + b"\nq\x00" + large + b"q\x01" + b"0h\x00h\x01R" * 3000
    path = tmp_path / "file.pth.tar"
    path.write_bytes(in_legacy(b"]" + call + b"a"))
    tracemalloc.start()
    with pytest.raises(InputError):
        read_foreign(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 50e6  # bytes; copies would be 300e6 and more


@pytest.mark.parametrize(
    ("bias", "message"),
    [
        (torch.full((10,), torch.nan), r"holds weights that are not finite \(linear\.bias\): its training diverged"),
        (torch.arange(10), r"1 are of another kind of number \(linear\.bias\)"),
    ],
)
def test_weights_that_are_not_finite_or_whole_numbers_are_named(tmp_path, bias, message):
    network, path = narrow(), tmp_path / "file.pth.tar"
    torch.save({"state_dict": {**network.state_dict(), "linear.bias": bias}}, path)
    with pytest.raises(InputError, match=message):
        read_foreign(path).weights_for(network)


@pytest.mark.parametrize("strides", [(64, 1), (10**9, 1), (2**62, 2**62)])
def test_a_tensor_that_reaches_beyond_its_numbers(tmp_path, strides):
    """Its shape fits the network, but not what is stored."""
    shape, key = (10, 128), text("0")
    numbers = b"".join(b"\x8a\x09" + number.to_bytes(9, "little") for number in strides)
    tensor = TENSOR + key + text("cpu") + b"M\x80\x02tQK\x00K\x0aK\x80\x86" + numbers + b"\x86\x89}tR"
    path = tmp_path / "file.pth.tar"
    state = b"}" + text("state_dict") + b"}" + text("weight") + tensor + b"ss."
    behind = pickle.dumps(["0"], 2) + struct.pack("<q", 640) + bytes(4 * 640)
    path.write_bytes(in_legacy(state).removesuffix(pickle.dumps([], 2)) + behind)
    network = nn.Linear(shape[1], shape[0], bias=False)
    foreign = read_foreign(path)
    assert foreign.num_classes == 10
    with pytest.raises(InputError, match="is damaged or no checkpoint"):
        foreign.weights_for(network)


def with_sums_that_fit(damaged):
    """A zip archive whose sums are those of what is in it, so that damage gets further than to them."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(damaged)) as read, zipfile.ZipFile(written, "w") as archive:
        for part in read.infolist():
            with read.open(part) as content:
                content._expected_crc = None
                archive.writestr(part.filename, content.read())
    return written.getvalue()


@pytest.mark.parametrize("format_", FORMATS)
def test_any_damage_is_one_line(release, format_):
    """Bits that fall over in the pickle itself: either the file still reads, or it is told in one line."""
    path = release(narrow(), _use_new_zipfile_serialization=FORMATS[format_])
    whole, rng, told = path.read_bytes(), random.Random(0), []
    begin = whole.index(b"state_dict")
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.randrange(begin, begin + 8000)] ^= 1 << rng.randrange(8)
        path.write_bytes(with_sums_that_fit(damaged) if FORMATS[format_] else damaged)
        try:
            foreign = read_foreign(path)
            foreign.claims()
            foreign.weights_for(narrow())
        except InputError as error:
            told.append(str(error))
    assert len(told) > 20
    assert not any("\n" in line for line in told)


# What cannot be imported.

NETWORK = ("--network", "preactresnet18_narrow")
DATASET = ("--dataset", "digits")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.unlink(), r"is not there: give a file of the release, such as checkpoint\.pth\.tar"),
        (lambda p: (p.unlink(), p.mkdir()), r"is a folder: give a file, such as .*/checkpoint\.pth\.tar"),
        (lambda p: p.write_bytes(b""), "is damaged or no checkpoint"),
        (lambda p: p.write_bytes(b"junk"), "is damaged or no checkpoint"),
        (lambda p: p.write_bytes(p.read_bytes()[:-200]), "is damaged or no checkpoint"),
        (lambda p: torch.save([1], p), "has no 'state_dict', it is something else: give a file that the release's"),
        (lambda p: torch.save({"config": {}, "network": {}}, p), "has no 'state_dict', it holds config, network: give"),
        (lambda p: torch.save({"state_dict": {"a": 1}}, p), "the 'state_dict' of .* holds more than tensors: give"),
        (lambda p: torch.save({"state_dict": {"a": torch.ones(2)}}, p), "has no last layer that tells the number of"),
    ],
)
@pytest.mark.parametrize("format_", FORMATS)
def test_files_that_cannot_be_read(release, bring, tmp_path, damage, message, format_):
    path = release(narrow(), _use_new_zipfile_serialization=FORMATS[format_])
    damage(path)
    with pytest.raises(SystemExit, match=message) as stop:
        bring(path, *NETWORK)
    assert str(stop.value).startswith("error: ")
    assert "\n" not in str(stop.value)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("cut", [0.2, 0.9, 0.999])
def test_a_legacy_file_that_is_cut_short(release, bring, cut):
    path = release(narrow(), _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
    with pytest.raises(SystemExit, match="is damaged or no checkpoint"):
        bring(path, *NETWORK)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--network", "resnet19"), "unknown --network 'resnet19'; did you mean 'resnet18'?"),
        (("--network", "vgg"), "unknown --network 'vgg'; valid: preactresnet18, preactresnet18_16channels, "),
        ((*NETWORK, "--dataset", "cifar11"), "unknown --dataset 'cifar11'; did you mean 'cifar10'?"),
        (
            (*NETWORK, "--dataset", "cifar100"),
            "tells 10 classes apart, cifar100 has 100: give the dataset that it is of",
        ),
        (
            (*NETWORK, "--dataset", "image_folder"),
            "configs/dataset/image_folder.yaml is a pattern: copy it to NAME.yaml",
        ),
        ((*NETWORK, *DATASET, "--output", "x.tar"), "unknown ending of --output '.tar'; did you mean '.pt'?"),
        (
            (*NETWORK, *DATASET, "--output=checkpoint.pth.tar/x.pt"),
            "checkpoint.pth.tar cannot be made (File exists): give another --output",
        ),
        ((), "the following arguments are required: --network: see import_checkpoint.py --help"),
        ((*NETWORK, "--netwrk=x"), "unrecognized arguments: --netwrk=x: see import_checkpoint.py --help"),
    ],
)
def test_arguments_that_cannot_work(release, bring, tmp_path, arguments, message):
    path = release(narrow())
    with pytest.raises(SystemExit) as stop:
        bring(path, *arguments)
    assert str(stop.value).startswith("error: ")
    assert message in str(stop.value)
    assert not list(tmp_path.rglob("*.json"))


def test_a_number_of_classes_of_no_release(release, bring):
    with pytest.raises(
        SystemExit, match="tells 37 classes apart, which no dataset of the releases has: give --dataset"
    ):
        bring(release(narrow(37)), *NETWORK)


def test_another_network_is_told_with_names_and_counts(release, bring):
    path = release(narrow())
    with pytest.raises(SystemExit) as stop:
        bring(path, "--network", "preactresnet34", *DATASET)
    missing = "96 of 198 tensors are missing (layer1.2.bn1.weight, layer1.2.bn1.bias, layer1.2.bn1.running_mean, ...); "
    shapes = (
        "85 have another shape (conv1.weight [16, 3, 3, 3], not [64, 3, 3, 3], layer1.0.bn1.weight [16], not [64], "
    )
    assert f"is of another network: {missing}{shapes}" in str(stop.value)
    assert str(stop.value).endswith(", ...): give the --network that it is of")
    with pytest.raises(SystemExit, match=r"; 106 are unknown \(conv1\.bias, layer1\.0\.conv1\.bias, "):
        bring(release(wide_resnet(28, 2, 10, **DIGITS)), *NETWORK, *DATASET)


@pytest.mark.parametrize("there", ["checkpoint.pt", "checkpoint.json"])
def test_what_is_there_is_not_replaced(release, bring, tmp_path, there):
    path = release(narrow())
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / there).write_text("mine")
    with pytest.raises(SystemExit, match=f"models/{there} is there already: give another --output, or delete it"):
        bring(path, *NETWORK, *DATASET)
    assert [(file.name, file.read_text()) for file in (tmp_path / "models").iterdir()] == [(there, "mine")]


def test_help_says_how(script, capsys):
    script("import_checkpoint", "--help")
    shown = capsys.readouterr().out
    assert "python scripts/import_checkpoint.py checkpoint.pth.tar --network preactresnet18" in shown
    assert all(option in shown for option in ("--network", "--dataset", "--output"))


def test_an_array_of_another_length_than_its_shape_has_no_values():
    array = StoredArray((3, 2), np.dtype("f4"), False, bytes(20))
    with pytest.raises(ValueError, match="cannot reshape"):
        array.values()
