"""Input mixup (Zhang et al., ICLR 2018): pixels and labels of two images in one proportion."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from puzzlemix.mixing.base import PairMixer, blend


class InputMixup(PairMixer):
    """mixed = lam x + (1 - lam) x[partner], targets likewise. Arguments as `PairMixer`'s."""

    def mix(self, model: nn.Module, images: Tensor, labels: Tensor, drawn: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Mixed images (B, C, H, W) and targets (B, K)."""
        lam, partner = drawn["lam"], drawn["partner"]
        return blend(images, partner, lam), self.mixed_targets(labels, partner, lam)
