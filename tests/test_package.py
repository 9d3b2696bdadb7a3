"""The package as somebody else's loop imports it."""

import subprocess
import sys

ONLY_TORCH_AND_NUMPY = """
import sys
before = set(sys.modules)
import torch, numpy
allowed = {name.partition(".")[0] for name in sys.modules}
import puzzlemix, puzzlemix.networks, puzzlemix.mixing, puzzlemix.robustness.attacks
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
    assert callable(puzzlemix.robustness.attacks.attack)
    assert callable(puzzlemix.networks.wide_resnet)


LOOP = """
import torch
import puzzlemix

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(4))
images, labels = torch.rand(16, 3, 16, 16), torch.arange(16) % 4
mix = puzzlemix.PuzzleMix(num_classes=4)
model(images)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
losses = []
for _ in range(30):
    optimizer.zero_grad()
    mixed, targets = mix(model, images, labels)
    loss = torch.nn.functional.cross_entropy(model(mixed), targets)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(losses[0], losses[-1])
"""


def test_the_readmes_loop_runs_with_a_plain_model():
    done = subprocess.run([sys.executable, "-c", LOOP], capture_output=True, text=True, check=True)
    first, last = map(float, done.stdout.split())
    assert last < first
