"""Input mixup (Zhang et al., ICLR 2018): pixels and labels of two images mixed in the same proportion."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from puzzlemix.mixing.base import PairMixer, blend
from puzzlemix.mixing.models import Model


class InputMixup(PairMixer):
    """mixed = lam x + (1 - lam) x[partner], and the same for the targets. Its arguments are those of `PairMixer`."""

    def mix(self, model: Model, images: Tensor, targets: Tensor, drawn: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Mixed images (B, C, H, W) and targets (B, K)."""
        lam, partner = drawn["lam"], drawn["partner"]
        return blend(images, partner, lam), self.mixed_targets(targets, partner, lam)
