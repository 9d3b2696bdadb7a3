"""What the steps of an epoch add up to, kept on the training device so that no step waits for a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from puzzlemix.runtime import distributed


class EpochSums:
    """Sums over this process's steps.

    Attributes:
        values: (4,) float64: the images' losses, right answers, images, and the first step (from 1) whose loss or
            gradient was not finite, 0 while there is none.
    """

    def __init__(self, device: torch.device):
        self.values = torch.zeros(4, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, step: int, loss: Tensor, gradient_norm: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a step.

        Args:
            step: its number, from 1.
            loss: mean over its images, ().
            gradient_norm: (), not finite where any parameter's gradient is not.
            logits: (V B, K), of V views; the first B count.
            targets: (B, K); an answer is right by the share of the label that it hits.
        """
        answers = logits[: len(targets)].argmax(1, keepdim=True)  # (B, 1)
        right = targets.gather(1, answers).sum()
        broken = ~(loss.isfinite() & gradient_norm.isfinite())
        first = torch.where(self.values[3] > 0, self.values[3], broken * step)
        self.values[:2] += torch.stack([loss.double() * len(targets), right.double()])
        self.values[2] += len(targets)
        self.values[3] = first

    def first_broken_step(self) -> int:
        """The first step that was not finite, 0 where all are; a GPU is waited for."""
        return int(self.values[3])

    def means(self) -> dict[str, float]:
        """Training loss, accuracy in percent and images of all processes."""
        loss, right, images = distributed.sum_over_processes(self.values[:3].clone()).tolist()
        return {"train_loss": loss / images, "train_accuracy": 100 * right / images, "images": int(images)}
