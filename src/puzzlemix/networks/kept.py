"""Networks from files of weights, such as `models/*.pt`, without Hydra."""

from importlib import import_module
from pathlib import Path

from torch import nn

from puzzlemix.runtime.checkpoint import as_input_error, load_checkpoint, load_weights
from puzzlemix.runtime.errors import require

TARGETS = [f"{__package__}.{name}" for name in ("preactresnet18", "preactresnet34", "wide_resnet", "resnet.resnet")]


def load(path: str | Path) -> nn.Module:
    """The network of a checkpoint or of kept weights, with its weights, in eval mode, on the CPU.

    The file may be somebody else's: it can only build one of `TARGETS`. A network that you have added yourself is built
    by `puzzlemix.cli.config.load_experiment`.

    Raises:
        InputError: it is missing, damaged, or its network is none of these.
    """
    content = load_checkpoint(path)
    config = content["config"].get("network")
    target = config.get("_target_") if isinstance(config, dict) else None
    is_ours = target in TARGETS
    require(is_ours, f"{path} has the network {str(target)[:100]}, none of puzzlemix.networks: nothing was run")
    module, _, name = target.rpartition(".")
    build = getattr(import_module(module), name)  # resnet needs torchvision
    with as_input_error(path):
        network = build(**{key: value for key, value in config.items() if key != "_target_"})
    load_weights(network, content["network"], path)
    return network.eval()
