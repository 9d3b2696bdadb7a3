"""CutMix (Yun et al., ICCV 2019): a box of the partner pasted into the image."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from puzzlemix.mixing.base import PairMixer
from puzzlemix.runtime.errors import require, require_number


class CutMix(PairMixer):
    """A box with a share 1 - lam of the area, clipped at the border; the targets use the area that was really kept.

    As in Puzzle Mix's release the box centre is a float, and every batch is mixed (`prob=1`; CutMix's own code, 0.5).
    Arguments as `PairMixer`'s.
    """

    given_names = ("lam", "partner", "centre")

    def check_given(self, given: Mapping[str, Any], images: Tensor) -> None:
        super().check_given(given, images)
        require(not isinstance(given.get("lam"), Tensor), "CutMix cuts one box a batch: give lam as a number")
        if "centre" in given:
            pair = isinstance(given["centre"], Sequence) and len(given["centre"]) == 2
            require(pair, f"centre must be row and column, pixels, such as (8.5, 3), not {given['centre']}")
            for name, middle, length in zip(("row", "column"), given["centre"], images.shape[2:], strict=True):
                require_number(f"the centre's {name}", middle, 0, length)

    def draw(self, images: Tensor, given: Mapping[str, Any]) -> dict[str, Any]:
        """Also `centre`: row and column of the box's centre, pixels, one for the global batch."""
        height, width = images.shape[-2:]
        centre = (self.draws.uniform(high=height), self.draws.uniform(high=width))
        return {**super().draw(images, given), "centre": centre}

    def mix(self, model: nn.Module, images: Tensor, labels: Tensor, drawn: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The images with the box of their partners, (B, C, H, W), and targets (B, K)."""
        partner = drawn["partner"]
        height, width = images.shape[-2:]
        top, bottom, left, right = box(drawn["lam"], drawn["centre"], height, width)
        keep = torch.ones(height, width, dtype=torch.bool, device=images.device)
        keep[top:bottom, left:right] = False
        kept_share = 1 - (bottom - top) * (right - left) / (height * width)
        return torch.where(keep, images, images[partner]), self.mixed_targets(labels, partner, kept_share)


def box(lam: float, centre: tuple[float, float], height: int, width: int) -> tuple[int, int, int, int]:
    """Top, bottom, left and right (exclusive ends), in pixels, of a box of area (1 - lam) H W before clipping."""
    edges = []
    for middle, length in zip(centre, (height, width), strict=True):
        half = (1 - lam) ** 0.5 * length / 2
        edges += [int(min(max(middle - half, 0), length)), int(min(max(middle + half, 0), length))]
    return tuple(edges)
