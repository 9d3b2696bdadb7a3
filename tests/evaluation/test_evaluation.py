"""Totals over a dataset's images, against plain loops; an evaluation that was stopped, against one that was not."""

import pytest
import torch
from torch import nn

from puzzlemix.evaluation.attacks import attack, attack_options
from puzzlemix.evaluation.evaluator import Evaluator, Images, attack_errors, clean_errors
from puzzlemix.runtime.errors import InputError

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
def evaluator(data, tmp_path):
    """`evaluator(network)`: of a new process, which reads what the ones before have kept."""
    return lambda network, weights="digest": Evaluator(network, data, 100, seed=1).keeping(
        tmp_path / "kept.json", weights
    )


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


def all_errors(evaluator):
    return clean_errors(evaluator) | attack_errors(evaluator, ATTACKS)


@pytest.mark.parametrize(("answers", "missing"), [(0, 21), (2, 21), (3, 18), (8, 18), (9, 12), (20, 12)])
def test_one_that_is_stopped_goes_on_with_the_measures_that_are_missing(network, data, evaluator, answers, missing):
    """Of three batches there are 3 answers when nothing is done to them, 6 under FGSM, 12 under PGD-3."""
    with pytest.raises(GoneError):
        all_errors(evaluator(EndsAt(network, answers).eval()))
    going_on = EndsAt(network, missing).eval()
    assert all_errors(evaluator(going_on)) == all_errors(Evaluator(network, data, 100, seed=1))
    assert going_on.left == 0


def test_what_was_measured_is_not_measured_again(network, data, evaluator):
    errors = all_errors(evaluator(network))
    gone = EndsAt(network, 0).eval()
    assert all_errors(evaluator(gone)) == errors
    stronger = {"fgsm8": {**ATTACKS["fgsm8"], "eps_255": 9}}
    path = evaluator(gone).kept.path
    for other in (
        lambda: attack_errors(evaluator(gone), stronger),  # of that name, but another attack
        lambda: clean_errors(evaluator(gone, "other weights")),
        lambda: clean_errors(Evaluator(gone, data, 100, seed=2).keeping(path, "digest")),
        lambda: clean_errors(Evaluator(gone, data, 50, seed=1).keeping(path, "digest")),
    ):
        with pytest.raises(GoneError):
            other()
    evaluator(gone).kept.remove()
    with pytest.raises(GoneError):
        clean_errors(evaluator(gone))


@pytest.mark.parametrize(
    "damage", [lambda text: "", lambda text: text[:-5], lambda text: text.replace("[", '["", ', 1)]
)
def test_a_damaged_file_counts_as_none(network, evaluator, damage):
    clean_errors(evaluator(network))
    path = evaluator(network).kept.path
    path.write_text(damage(path.read_text()))
    assert evaluator(network).kept.totals.get("evaluation") is None
    clean_errors(evaluator(network))
    assert evaluator(network).kept.totals.get("evaluation")


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
        ({"step_255": None}, "attack 'mine': step_255, in 1/255 of the pixel range, must be a number"),
        ({"restarts": 3, "random_start": False}, "attack 'mine': restarts need random_start"),
        ({"norm": 2}, "attack 'mine' must have"),
    ],
)
def test_settings_that_are_no_attack_are_named(change, message):
    with pytest.raises(InputError, match=message):
        attack_options("mine", {**ATTACKS["pgd3"], **change})


def test_of_another_set_of_images_nothing_is_known(network, data, evaluator):
    """As where another set comes in place of the first between a kill and the next start."""

    def wrong(shards):
        return ((images, 9 - labels) for images, labels in data.test_batches(shards))

    def error(read, of):
        return evaluator(network).errors("fog 1", images=Images(range(300), read), variant=of)[0]

    assert error(data.test_batches, "a set") < 20
    assert error(wrong, "another") > 80
