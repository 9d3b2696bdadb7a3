"""The package as somebody else's loop imports it."""

import subprocess
import sys
from pathlib import Path

MODELS = Path(__file__).parents[1] / "models"
ONLY_TORCH_AND_NUMPY = """
import sys
before = set(sys.modules)
import torch, numpy.random
allowed = {name.partition(".")[0] for name in sys.modules}
import puzzlemix, puzzlemix.networks, puzzlemix.mixing, puzzlemix.evaluation.attacks
puzzlemix.networks.load(sys.argv[1])
new = {name.partition(".")[0] for name in sys.modules} - allowed
print(sorted(new - {"puzzlemix"} - set(sys.stdlib_module_names)))
"""


def test_importing_mixing_and_networks_and_loading_weights_needs_torch_and_numpy_only():
    command = [sys.executable, "-c", ONLY_TORCH_AND_NUMPY, next(MODELS.glob("*.pt"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_names_of_the_public_api():
    import puzzlemix

    for name in (*puzzlemix.__all__, "__version__"):
        assert hasattr(puzzlemix, name)
    assert callable(puzzlemix.evaluation.attacks.attack)
    assert callable(puzzlemix.networks.wide_resnet)
