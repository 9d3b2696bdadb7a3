"""AutoAttack a batch at a time, against its package run on all images at once."""

import importlib.util
import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from test_evaluation import EndsAt, GoneError
from torch import nn

from puzzlemix.evaluation.auto_attack import ATTACKS, auto_attack, check_auto_attack
from puzzlemix.evaluation.evaluator import Evaluator, attack_errors, clean_errors
from puzzlemix.runtime.errors import InputError

pyautoattack = pytest.importorskip("pyautoattack", reason="needs the extra robustness")
EPS_255 = 30  # under which the small network still knows some
EVERY = 5


def trained(images, labels, classes):
    """Two layers, since thousands of answers are asked for, that know these digits."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, classes))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="module")
def network(digits):
    return trained(*(part[:1200] for part in digits), classes=10)


@pytest.fixture(scope="module")
def found(network, data):
    """What it finds, how many answers it needs, and the random state before it and after."""
    torch.manual_seed(7)
    before = torch.get_rng_state()
    counting = EndsAt(network, 10**9).eval()
    results = auto_attack(Evaluator(counting, data, 30), EPS_255, EVERY)
    return SimpleNamespace(results=results, answers=10**9 - counting.left, before=before, after=torch.get_rng_state())


def test_it_is_the_packages_own_standard_version(network, data, found):
    images, labels = (torch.cat(parts)[::EVERY] for parts in zip(*data.test_batches([range(300)]), strict=True))
    theirs = pyautoattack.AutoAttack(network, norm="Linf", eps=EPS_255 / 255, version="standard", seed=0)
    adversarial, _ = theirs.run_standard_evaluation(images, labels, batch_size=100)
    with torch.no_grad():
        error = 100 * (network(adversarial).argmax(1) != labels).double().mean()
    results = found.results
    assert results["images"] == len(labels) == 60
    assert results["error"] == pytest.approx(float(error), abs=5)  # three images: random numbers are others
    assert 5 < results["error"] < 95


def test_each_attack_adds_to_those_before_and_no_other_is_stronger(network, data, found):
    results = found.results
    assert list(results["after"]) == list(ATTACKS)
    assert [results["clean"], *results["after"].values()] == sorted([results["clean"], *results["after"].values()])
    assert results["error"] == results["after"]["square"]

    every = SimpleNamespace(test_count=60, test_batches=lambda shards: data.test_batches([range(0, 300, EVERY)]))
    on_the_same = Evaluator(network, every, 60)
    pgd = {"pgd": {"eps_255": EPS_255, "step_255": EPS_255 / 4, "steps": 20, "random_start": True}}
    assert results["clean"] == pytest.approx(clean_errors(on_the_same)["top1_error"])
    assert results["error"] >= attack_errors(on_the_same, pgd)["pgd_error"]


def test_the_global_random_state_stays(found):
    assert torch.equal(found.before, found.after)


def test_one_that_was_killed_goes_on_with_the_attacks_that_are_missing(network, data, found, tmp_path):
    def evaluator(network):
        return Evaluator(network, data, 30).keeping(tmp_path / "kept.json", "digest")

    half = EndsAt(network, found.answers // 2).eval()
    with pytest.raises(GoneError):
        auto_attack(evaluator(half), EPS_255, EVERY)
    kept = json.loads((tmp_path / "kept.json").read_text())["totals"]
    assert 1 < len(kept) < 5  # of the clean images and of four attacks
    torch.rand(3)
    assert auto_attack(evaluator(network), EPS_255, EVERY) == found.results


def test_no_more_classes_are_aimed_at_than_there_are(digits):
    """Of five classes the library's default, nine others, would fail."""
    images, labels = (part[digits[1] < 5][:40] for part in digits)
    five = SimpleNamespace(
        num_classes=5, test_count=40, test_batches=lambda shards: ((images[own], labels[own]) for own in shards)
    )
    results = auto_attack(Evaluator(trained(images, labels, classes=5), five, 40), 30)
    assert results["clean"] < results["error"] < 100


def test_where_nothing_is_left_the_other_attacks_have_nothing_to_do(network, data):
    results = auto_attack(Evaluator(network, data, 30), 255, EVERY)
    assert results["after"] == dict.fromkeys(ATTACKS, 100.0)


def test_other_images_are_another_measurement(network, data, tmp_path):
    def clean(every):
        evaluator = Evaluator(network, data, 300).keeping(tmp_path / "kept.json", "digest")
        return auto_attack(evaluator, 255, every)["clean"]

    assert clean(2) == pytest.approx(auto_attack(Evaluator(network, data, 300), 255, 2)["clean"])
    assert clean(3) == pytest.approx(auto_attack(Evaluator(network, data, 300), 255, 3)["clean"])


@pytest.mark.parametrize(
    ("options", "message"), [((300, 1), "eps_255"), ((-1, 1), "eps_255"), ((8, 0), "every"), ((None, 0.5), "every")]
)
def test_a_setting_out_of_range_is_named(options, message):
    with pytest.raises(InputError, match=rf"auto_attack\.{message}"):
        check_auto_attack(*options, classes=10)


def test_too_few_classes_are_named():
    check_auto_attack(None, 1, classes=3)
    with pytest.raises(InputError, match="AutoAttack needs 4 classes or more, not 3"):
        check_auto_attack(8, 1, classes=3)


def test_without_the_package_the_remedy_is_named(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyautoattack" else found(name))
    check_auto_attack(None, 1, classes=10)
    with pytest.raises(InputError, match=r"pip install '\.\[robustness\]'.*auto_attack\.eps_255=null"):
        check_auto_attack(8, 1, classes=10)
