"""The package as somebody else's loop imports it."""

import subprocess
import sys

ONLY_TORCH_AND_NUMPY = """
import sys
before = set(sys.modules)
import torch, numpy.random
allowed = {name.partition(".")[0] for name in sys.modules}
import puzzlemix, puzzlemix.networks, puzzlemix.mixing, puzzlemix.evaluation.attacks
new = {name.partition(".")[0] for name in sys.modules} - allowed
print(sorted(new - {"puzzlemix"} - set(sys.stdlib_module_names)))
"""


def test_importing_mixing_and_networks_needs_torch_and_numpy_only():
    done = subprocess.run([sys.executable, "-c", ONLY_TORCH_AND_NUMPY], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_names_of_the_public_api():
    import puzzlemix

    for name in puzzlemix.__all__:
        assert hasattr(puzzlemix, name)
    assert callable(puzzlemix.evaluation.attacks.attack)
    assert callable(puzzlemix.networks.wide_resnet)
