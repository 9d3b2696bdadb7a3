"""Sums over a dataset's images, against plain loops; an evaluation that was interrupted, against one that was not."""

import json

import pytest
import torch
from torch import nn

from puzzlemix.errors import InputError
from puzzlemix.evaluation import Evaluator, Images, clean_errors
from puzzlemix.robustness.attacked import attack_errors, attack_options
from puzzlemix.robustness.attacks import attack
from puzzlemix.saved_sums import SavedSums, Sums

ATTACKS = {
    "fgsm8": {"eps_255": 8, "step_255": 8, "steps": 1, "random_start": False},
    "pgd3": {"eps_255": 8, "step_255": 4, "steps": 3, "random_start": True},
}


class GoneError(Exception):
    """A process that is killed."""


class EndsAt(nn.Module):
    """A network that answers so many times."""

    def __init__(self, network, times):
        super().__init__()
        self.network, self.left = network, times

    def forward(self, images):
        if self.left == 0:
            raise GoneError
        self.left -= 1
        return self.network(images)


@pytest.fixture
def saved(tmp_path):
    """`saved()`: a new process's view of one file."""
    return lambda of="network": SavedSums(tmp_path / "unfinished.json", {"of": of})


def test_errors_are_those_of_a_plain_loop(network, data):
    images, labels = (torch.cat(parts) for parts in zip(*data.test_batches([range(300)]), strict=True))
    ranked = network(images).argsort(1, descending=True)
    wrong1 = sum(int(order[0] != label) for order, label in zip(ranked, labels, strict=True))
    wrong5 = sum(int(label not in order[:5]) for order, label in zip(ranked, labels, strict=True))
    for batch_size in (300, 77):
        errors = clean_errors(Evaluator(network, data, batch_size))
        assert errors == {"top1_error": pytest.approx(wrong1 / 3), "top5_error": pytest.approx(wrong5 / 3)}
    assert 0 < wrong1 < 60

    options = attack_options("fgsm8", ATTACKS["fgsm8"])
    known = (network(attack(network, images, labels, **options)).argmax(1) == labels).sum()
    assert attack_errors(Evaluator(network, data, 77), ATTACKS)["fgsm8_error"] == pytest.approx(100 - int(known) / 3)


def test_modes_stay(network, data):
    network.train()
    clean_errors(Evaluator(network, data, 300))
    assert network.training
    network.eval()
    clean_errors(Evaluator(network, data, 300))
    assert not network.training


@pytest.mark.parametrize("answers", [0, 1, 4, 10, 15, 20])
def test_an_interrupted_evaluation_goes_on_to_the_same_numbers(network, data, saved, monkeypatch, answers):
    monkeypatch.setattr("puzzlemix.saved_sums.WRITTEN_EVERY_S", 0.0)

    def evaluate(network, saved):
        evaluator = Evaluator(network.eval(), data, 100, seed=1, saved=saved)
        return clean_errors(evaluator) | attack_errors(evaluator, ATTACKS)

    whole = 3 * (1 + 2 + 4)  # answers: of three batches, clean, under FGSM, under PGD-3
    with pytest.raises(GoneError):
        evaluate(EndsAt(network, answers), saved())
    going_on = EndsAt(network, whole)
    assert evaluate(going_on, saved()) == evaluate(network, None)
    needed = whole - going_on.left
    assert whole - answers <= needed < whole - answers + 4  # at most the batch that it was in, once more


def test_what_was_measured_is_not_measured_again(network, data, saved):
    evaluator = Evaluator(network, data, 100, saved=saved())
    errors = clean_errors(evaluator) | attack_errors(evaluator, ATTACKS)
    gone = EndsAt(network, 0).eval()
    assert clean_errors(Evaluator(gone, data, 100, saved=saved())) | attack_errors(
        Evaluator(gone, data, 100, saved=saved()), ATTACKS
    ) == pytest.approx(errors)
    stronger = {"fgsm8": {**ATTACKS["fgsm8"], "eps_255": 9}}
    with pytest.raises(GoneError):  # of that name, but another attack
        attack_errors(Evaluator(gone, data, 100, saved=saved()), stronger)
    with pytest.raises(GoneError):  # of another network
        clean_errors(Evaluator(gone, data, 100, saved=saved("other")))
    saved().remove()
    with pytest.raises(GoneError):
        clean_errors(Evaluator(gone, data, 100, saved=saved()))


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"of": {"of": "network"}}', '{"of": {"of": "network"}, "sums": 3}']
)
def test_a_damaged_file_counts_as_none(tmp_path, saved, content):
    (tmp_path / "unfinished.json").write_text(content)
    assert saved().get("evaluation") is None


def test_sums_come_back_to_the_last_bit(saved):
    values = torch.rand(5, dtype=torch.float64) / 3
    saved().keep("nll", Sums(7, values), complete=True)
    batches, again = saved().get("nll")
    assert batches == 7
    assert torch.equal(again, values)


def test_random_starts_follow_from_the_seed(network, data):
    one_step = {"pgd": {"eps_255": 30, "step_255": 5, "steps": 1, "random_start": True}}
    errors = [attack_errors(Evaluator(network, data, 100, seed), one_step)["pgd_error"] for seed in (0, 0, 1, 2)]
    assert errors[0] == errors[1]
    assert len(set(errors)) > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "attack 'mine': steps must be a whole number, at least 1, not 0"),
        ({"eps_255": 300}, "attack 'mine': eps_255, in 1/255 of the pixel range, must be a number"),
        ({"eps_255": "8"}, "attack 'mine': eps_255, in 1/255 of the pixel range, must be a number"),
        ({"step_255": None}, "attack 'mine' must not have null"),
        ({"restarts": 3, "random_start": False}, "attack 'mine': restarts need random_start"),
        ({"norm": 2}, "attack 'mine' must have"),
    ],
)
def test_settings_that_are_no_attack_are_named(change, message):
    with pytest.raises(InputError, match=message):
        attack_options("mine", {**ATTACKS["pgd3"], **change})


def test_the_file_is_plain_json(tmp_path, saved):
    saved().keep("evaluation", Sums(1, torch.tensor([1.0, 2.0], dtype=torch.float64)), complete=True)
    content = json.loads((tmp_path / "unfinished.json").read_text())
    assert content == {"of": {"of": "network"}, "sums": {"evaluation": [1, [1.0, 2.0]]}}


def test_of_a_measurement_that_is_whole_nothing_is_read_again(network, data, saved):
    evaluator = Evaluator(network, data, 100, saved=saved())
    wanted = evaluator.errors("fog 1", images=Images(range(300), data.test_batches), of="one set")

    def unreadable(shards):
        yield from ([] if len(shards) == 0 else [pytest.fail("read again")])

    again = Evaluator(network, data, 100, saved=saved())
    assert again.errors("fog 1", images=Images(range(300), unreadable), of="one set") == wanted


def test_one_sets_sums_are_not_anothers(network, data, saved):
    """As where another set comes in place of the first between a kill and the next start."""

    def wrong(shards):
        return ((images, 9 - labels) for images, labels in data.test_batches(shards))

    def error(read, of):
        return Evaluator(network, data, 100, saved=saved()).errors("fog 1", images=Images(range(300), read), of=of)[0]

    assert error(data.test_batches, "a set") < 20
    assert error(wrong, "another") > 80
