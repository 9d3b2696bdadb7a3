"""The calibration of a network: how its confidence compares with its accuracy.

The expected calibration error is that of Naeini et al. (2015), as torchmetrics computes it with the L1 norm: the
largest probability falls into bins of equal width, and a confidence of exactly 1 has a bin of its own.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from puzzlemix.evaluation.evaluator import Evaluator

BINS = 15


def calibration(evaluator: Evaluator) -> dict[str, Any]:
    """Measure the network's calibration on the test images.

    Returns:
        `ece` in percent; `nll`, the mean cross-entropy in nats; `bins`, each with its lower bound `from`, the number of
        `images`, and their mean `confidence` and `accuracy` in percent (None without images).
    """
    edges = torch.linspace(0, 1, BINS + 1, device=evaluator.device)  # (BINS + 1,)

    def measure(batch: int, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            logits = evaluator.network(images)  # (B, K)
        confidence, answers = logits.softmax(1).max(1)  # (B,)
        right = (answers == labels).double()
        in_bin = F.one_hot(torch.bucketize(confidence, edges, right=True) - 1, BINS + 1).double()  # (B, BINS + 1)
        of_image = torch.stack([torch.ones_like(right), confidence.double(), right])  # (3, B)
        nll = F.cross_entropy(logits, labels, reduction="sum").double()
        return torch.cat([(of_image @ in_bin).flatten(), nll[None]])

    sums = evaluator.total("calibration", 3 * (BINS + 1) + 1, measure)
    images, confidence, right = torch.tensor(sums[:-1], dtype=torch.float64).view(3, -1)
    return {
        "ece": 100 * float((confidence - right).abs().sum() / images.sum()),
        "nll": sums[-1] / float(images.sum()),
        "bins": [
            {"from": i / BINS, "images": int(n), "confidence": _percent(c, n), "accuracy": _percent(r, n)}
            for i, (n, c, r) in enumerate(zip(images, confidence, right, strict=True))
        ],
    }


def _percent(part: Tensor, of: Tensor) -> float | None:
    return float(100 * part / of) if of else None
