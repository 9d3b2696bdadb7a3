"""Manifold mixup (Verma et al., ICML 2019): mixup of a hidden state at a random depth."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from puzzlemix.mixing.base import PairMixer, blend
from puzzlemix.mixing.models import Model, stage_of
from puzzlemix.runtime.errors import require


class ManifoldMixup(PairMixer):
    """Mixup of the output of the network's stage `layer<k>`, with k drawn for each batch; k = 0 mixes the input.

    A forward hook on the stage does it. The hook acts in the NEXT forward pass only and then removes itself.

    Args:
        alpha, **options: see `PairMixer`.
        layers: the depths k to draw from; the release has 0, 1, 2. A depth without a stage raises `InputError`.
    """

    given_names = ("lam", "partner", "layer")

    def __init__(self, alpha: float = 2.0, layers: Sequence[int] = (0, 1, 2), **options: Any):
        super().__init__(alpha, **options)
        fits = len(layers) > 0 and all(isinstance(layer, int) and layer >= 0 for layer in layers)
        require(fits, f"layers must be depths of 0 or more, not {list(layers)}")
        self.layers = tuple(layers)
        self._hook: RemovableHandle | None = None

    def check(self, network: nn.Module, height: int, width: int) -> None:
        for layer in self.layers:
            self._stage(network, layer)

    def draw(self, images: Tensor, given: Mapping[str, Any]) -> dict[str, Any]:
        """Also draw `layer`, the depth, one for the global batch."""
        return {**super().draw(images, given), "layer": self.draws.choice(self.layers)}

    def mix(self, model: Model, images: Tensor, targets: Tensor, drawn: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        lam, partner, layer = drawn["lam"], drawn["partner"], drawn["layer"]
        if self._hook is not None:
            self._hook.remove()  # no forward pass followed the last batch

        targets = self.mixed_targets(targets, partner, lam)
        if layer == 0:
            return blend(images, partner, lam), targets

        def mix_once(module: nn.Module, inputs: tuple[Tensor, ...], hidden: Tensor) -> Tensor:
            hook.remove()
            return blend(hidden, partner, lam)

        self._hook = hook = self._stage(model, layer).register_forward_hook(mix_once)
        return images, targets

    @staticmethod
    def _stage(model: nn.Module, layer: int) -> nn.Module:
        """The submodule whose output is mixed; for layer 0 the network itself."""
        stage = model if layer == 0 else stage_of(model, f"layer{layer}")
        require(stage is not None, f"manifold mixup needs a stage 'layer{layer}' in the network: change its layers")
        return stage
