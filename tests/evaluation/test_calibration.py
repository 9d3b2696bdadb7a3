"""Calibration against torchmetrics, against a plain loop, and on answers whose calibration is known."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from puzzlemix.evaluation.calibration import BINS, calibration
from puzzlemix.evaluation.evaluator import Evaluator


class Given(nn.Module):
    """Answers that were made beforehand: the images are their places."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images):
        return self.logits[images.flatten().long()]


class Places:
    """A dataset whose images are numbers."""

    def __init__(self, labels):
        self.labels = labels

    @property
    def test_count(self):
        return len(self.labels)

    def test_batches(self, shards):
        for places in map(torch.tensor, shards):
            yield places.float().view(-1, 1, 1, 1), self.labels[places]


def calibration_of(logits, labels, batch_size=64):
    return calibration(Evaluator(Given(logits), Places(labels), batch_size))


def drawn(scale, count=500, classes=7):
    generator = torch.Generator().manual_seed(int(10 * scale))
    labels = torch.randint(classes, (count,), generator=generator)
    return scale * (torch.randn(count, classes, generator=generator) + 2 * F.one_hot(labels, classes)), labels


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 3.0, 40.0])  # the last has confidences of exactly 1
def test_it_is_torchmetrics(scale):
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    logits, labels = drawn(scale)
    wanted = metrics.multiclass_calibration_error(logits, labels, logits.shape[1], n_bins=BINS, norm="l1")
    assert calibration_of(logits, labels)["ece"] == pytest.approx(100 * float(wanted), abs=1e-4)


def test_it_is_torchmetrics_of_a_trained_network(network, data):
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    images, labels = (torch.cat(parts) for parts in zip(*data.test_batches([range(300)]), strict=True))
    with torch.no_grad():
        logits = network(images)
    wanted = metrics.multiclass_calibration_error(logits, labels, 10, n_bins=BINS, norm="l1")
    found = calibration(Evaluator(network, data, 77))
    assert found["ece"] == pytest.approx(100 * float(wanted), abs=1e-4)
    assert found["nll"] == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)


@pytest.mark.parametrize("scale", [0.5, 3.0, 40.0])
def test_it_is_a_plain_loop(scale):
    logits, labels = drawn(scale)
    probabilities = logits.softmax(1)
    bins = [[] for _ in range(BINS + 1)]
    for row, label in zip(probabilities, labels, strict=True):
        confidence = row.max()
        bins[int(torch.searchsorted(torch.linspace(0, 1, BINS + 1), confidence, right=True)) - 1].append(
            (float(confidence), float(row.argmax() == label))
        )
    found = calibration_of(logits, labels)
    for expected, shown in zip(bins, found["bins"], strict=True):
        assert shown["images"] == len(expected)
        if expected:
            assert shown["confidence"] == pytest.approx(100 * sum(c for c, _ in expected) / len(expected))
            assert shown["accuracy"] == pytest.approx(100 * sum(r for _, r in expected) / len(expected))
        else:
            assert shown["confidence"] is shown["accuracy"] is None
    gaps = sum(abs(sum(c - r for c, r in of_bin)) for of_bin in bins)
    assert found["ece"] == pytest.approx(100 * gaps / len(labels))


def test_answers_as_often_right_as_they_are_sure_have_no_error():
    labels = torch.tensor([0, 1] * 50)
    logits = torch.tensor([[0.5, 0.5]]).log().expand(100, 2)
    found = calibration_of(logits.clone(), labels)
    assert found["ece"] == pytest.approx(0, abs=1e-5)
    assert found["nll"] == pytest.approx(math.log(2))
    always_wrong = calibration_of(
        torch.tensor([[0.0, 100.0]]).expand(10, 2).clone(), torch.zeros(10, dtype=torch.int64)
    )
    assert always_wrong["ece"] == pytest.approx(100)


def test_batches_do_not_matter():
    logits, labels = drawn(1.0)
    assert calibration_of(logits, labels, 7) == pytest.approx(calibration_of(logits, labels, 500), nan_ok=True)
