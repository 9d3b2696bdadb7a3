"""Each self-check on errors for which it must fire and for which it must not, and on a network that hides gradients."""

import pytest
import torch
from torch import nn

from puzzlemix.evaluation.evaluator import Evaluator, attack_errors, clean_errors
from puzzlemix.evaluation.self_checks import attack_name, self_checks, zero_gradients

FGSM8 = {"eps_255": 8, "step_255": 8, "steps": 1, "random_start": False}
FGSM8_RANDOM = {**FGSM8, "random_start": True}
NOTHING = {"eps_255": 0, "step_255": 1, "steps": 1, "random_start": True}
PGD20 = {"eps_255": 8, "step_255": 4, "steps": 20, "random_start": True}
ATTACKS = {"fgsm8": FGSM8, "fgsm8_random": FGSM8_RANDOM, "none": NOTHING, "pgd20": PGD20}
SOUND = {"top1_error": 10.0, "none_error": 10.0, "fgsm8_error": 50.0, "fgsm8_random_error": 40.0, "pgd20_error": 80.0}
SOUND |= {"attacks": ATTACKS, "zero_gradients": 1.0}
AFTER = dict(zip(("apgd-ce", "apgd-t", "fab-t", "square"), (80.0, 85.0, 85.0, 85.1), strict=True))
SOUND |= {"auto_attack": {"eps_255": 8, "error": 85.1, "after": AFTER}}


def fired(results):
    return [check["check"] for check in self_checks(results) if check["fired"]]


def test_sound_errors_fire_none():
    checks = self_checks(SOUND)
    assert len(checks) == 6
    assert all(not check["fired"] and check["found"] for check in checks)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"none_error": 10.2}, "the error at eps 0 is the clean one"),
        ({"fgsm8_error": 9.9, "fgsm8_random_error": 9.5}, "no attack lowers the error"),
        ({"fgsm8_error": 85.1}, "one step is not stronger than 20, by more than 5 points"),
        ({"fgsm8_random_error": 51.1}, "a random start makes no attack stronger, by more than 1 point"),
        ({"zero_gradients": 10.1}, "the gradient is zero for at most 10 % of images"),
        (
            {"auto_attack": {"after": {**AFTER, "square": 85.3}}},
            "an attack without gradients fools at most 0.2 points more than those with gradients",
        ),
    ],
)
def test_each_check_fires(change, check):
    assert fired(SOUND | change) == [check]


@pytest.mark.parametrize(
    "change",
    [{"fgsm8_error": 85.0}, {"fgsm8_random_error": 51.0}, {"zero_gradients": 10.0}, {"fgsm8_error": 79.0}],
)
def test_what_is_just_allowed_does_not_fire(change):
    assert fired(SOUND | change) == []


def test_what_was_not_measured_is_not_told():
    few = {"top1_error": 10.0, "attacks": {"fgsm8": FGSM8}, "fgsm8_error": 50.0, "zero_gradients": 0.0}
    assert [check["found"] is None for check in self_checks(few)] == [True, False, True, True, False, True]
    assert fired(few) == []


def test_the_worst_is_told():
    results = SOUND | {"fgsm8_error": 9.0, "fgsm8_random_error": 2.0}
    (check,) = (check for check in self_checks(results) if check["check"] == "no attack lowers the error")
    assert check["found"] == "FGSM 8/255 with random start 2.00 %, clean 10.00 %"


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (FGSM8, "FGSM 8/255"),
        (FGSM8_RANDOM, "FGSM 8/255 with random start"),
        (PGD20, "PGD-20 8/255 (step 4)"),
        ({**PGD20, "random_start": False}, "PGD-20 8/255 (step 4) without random start"),
        ({**PGD20, "steps": 50, "restarts": 10}, "PGD-50 x 10 8/255 (step 4)"),
        ({**FGSM8, "eps_255": 0.5}, "FGSM 0.5/255 (step 8)"),
    ],
)
def test_attacks_have_names(settings, name):
    assert attack_name(settings) == name


class HidesGradients(nn.Module):
    """The network, whose answers are of pixels rounded to a few values, as a defence of that kind rounds them."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network((images * 4).round() / 4)


def measured(network, data):
    evaluator = Evaluator(network, data, 100)
    results = clean_errors(evaluator) | attack_errors(evaluator, ATTACKS)
    return results | {"attacks": ATTACKS, "zero_gradients": zero_gradients(evaluator)}


def test_an_honest_network_fires_none(network, data):
    assert fired(measured(network, data)) == []


def test_a_network_that_hides_its_gradients_is_found(network, data):
    results = measured(HidesGradients(network).eval(), data)
    assert results["zero_gradients"] == 100
    assert "the gradient is zero for at most 10 % of images" in fired(results)


def test_zero_gradients_are_counted(network, data):
    """Of half of the images the network does not look at the pixels."""

    class LooksAtSome(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, images):
            looked_at = images.flatten(1).mean(1) > middle
            return self.network(images * looked_at.view(-1, 1, 1, 1))

    images = torch.cat([images for images, _ in data.test_batches([range(300)])])
    middle = images.flatten(1).mean(1).median()
    share = (images.flatten(1).mean(1) <= middle).double().mean()
    assert zero_gradients(Evaluator(LooksAtSome().eval(), data, 77)) == pytest.approx(100 * float(share))
