"""CutMix (Yun et al., ICCV 2019): a box of the partner pasted into the image."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from puzzlemix.mixing.base import PairMixer
from puzzlemix.mixing.models import Model
from puzzlemix.runtime.errors import require, require_number


class CutMix(PairMixer):
    """Paste a box with share 1 - lam of the area, clipped at the image border. Targets follow the area that was kept.

    As in Puzzle Mix's release, the box centre is a float and every batch is mixed (CutMix's own code has `prob=0.5`).
    The arguments are those of `PairMixer`.
    """

    given_names = ("lam", "partner", "centre")

    def check_given(self, given: Mapping[str, Any], images: Tensor) -> None:
        super().check_given(given, images)
        require(not isinstance(given.get("lam"), Tensor), "CutMix cuts one box per batch: give lam as a number")
        if "centre" in given:
            is_pair = isinstance(given["centre"], Sequence) and len(given["centre"]) == 2
            require(is_pair, f"centre must be row and column, in pixels, such as (8.5, 3), not {given['centre']}")
            for name, middle, length in zip(("row", "column"), given["centre"], images.shape[-2:], strict=True):
                require_number(f"the centre's {name}", middle, 0, length)

    def draw(self, images: Tensor, given: Mapping[str, Any]) -> dict[str, Any]:
        """Also draw `centre`: row and column of the box's centre, in pixels, one for the global batch."""
        height, width = images.shape[-2:]
        centre = (self.draws.uniform(high=height), self.draws.uniform(high=width))
        return {**super().draw(images, given), "centre": centre}

    def mix(self, model: Model, images: Tensor, targets: Tensor, drawn: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Mixed images (B, C, H, W) and targets (B, K)."""
        partner = drawn["partner"]
        height, width = images.shape[-2:]
        box = []  # top, bottom, left and right (exclusive ends), pixels; its area is (1 - lam) H W before clipping
        for middle, length in zip(drawn["centre"], (height, width), strict=True):
            half = (1 - drawn["lam"]) ** 0.5 * length / 2
            box += [int(min(max(middle - half, 0), length)), int(min(max(middle + half, 0), length))]
        top, bottom, left, right = box
        keep = torch.ones(height, width, dtype=torch.bool, device=images.device)
        keep[top:bottom, left:right] = False
        kept_share = 1 - (bottom - top) * (right - left) / (height * width)
        self.last["mask"] = keep.float().expand(len(images), -1, -1)
        return torch.where(keep, images, images[partner]), self.mixed_targets(targets, partner, kept_share)
