"""The losses against PyTorch's own and a plain loop."""

import math

import pytest
import torch
import torch.nn.functional as F

from puzzlemix.mixing.losses import bce_on_softmax, jensen_shannon, soft_cross_entropy


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(16, 10, generator=generator)
    targets = torch.rand(16, 10, generator=generator).softmax(-1)
    return logits.requires_grad_(), targets


def test_bce_on_softmax_and_its_gradient_are_pytorchs(batch):
    logits, targets = batch
    ours, theirs = bce_on_softmax(logits, targets), F.binary_cross_entropy(logits.softmax(-1), targets)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits))


def test_bce_on_softmax_is_finite_where_the_softmax_is_saturated():
    logits = torch.tensor([[200.0, 0.0, -200.0]], requires_grad=True)
    loss = bce_on_softmax(logits, torch.tensor([[0.0, 0.5, 0.5]]))
    torch.testing.assert_close(loss, F.binary_cross_entropy(logits.softmax(-1), torch.tensor([[0.0, 0.5, 0.5]])))
    assert torch.isfinite(torch.autograd.grad(loss, logits)[0]).all()


def test_bce_on_softmax_of_nan_is_nan(batch):
    assert bce_on_softmax(torch.full((2, 3), torch.nan), torch.ones(2, 3) / 3).isnan()


def test_soft_cross_entropy_is_the_plain_sum(batch):
    logits, targets = batch
    rows = [
        -sum(t * (x - math.log(sum(math.exp(v) for v in row))) for t, x in zip(target, row, strict=True))
        for row, target in zip(logits.tolist(), targets.tolist(), strict=True)
    ]
    assert soft_cross_entropy(logits, targets).item() == pytest.approx(sum(rows) / len(rows), rel=1e-5)


def test_jensen_shannon_and_its_gradient_are_augmixs_own(batch):
    """`F.kl_div` as in `augmix/cifar.py`."""
    logits = torch.randn(3, 16, 10).requires_grad_()
    views = logits.softmax(-1)
    mean = (views.sum(0) / 3).clamp(1e-7, 1).log()
    theirs = sum(F.kl_div(mean, view, reduction="batchmean") for view in views) / 3
    ours = jensen_shannon(logits)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits))


def test_jensen_shannon_is_none_of_equal_answers_and_most_of_sure_ones_that_differ(batch):
    logits = batch[0].detach()
    assert jensen_shannon(torch.stack([logits] * 3)).item() == pytest.approx(0, abs=1e-6)
    sure = (1000 * torch.eye(3)[:, None]).requires_grad_()  # (3 views, 1 image, 3 classes)
    divergence = jensen_shannon(sure)
    assert divergence.item() == pytest.approx(math.log(3))
    assert torch.autograd.grad(divergence, sure)[0].isfinite().all()  # though some answers are 0


def test_losses_are_taken_in_float32(batch):
    logits, targets = batch
    for loss in (bce_on_softmax, soft_cross_entropy):
        assert loss(logits.bfloat16(), targets).dtype == torch.float32
    assert jensen_shannon(logits.bfloat16()[None]).dtype == torch.float32
