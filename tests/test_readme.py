"""What the README shows works as it stands there."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import CONFIGS, SCRIPTS, TINY

README = (SCRIPTS.parent / "README.md").read_text()
LOOP, METHOD = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
(METHOD_YAML,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)


def test_the_loop_trains_a_plain_model():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(1568, 100)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    images, labels = torch.rand(32, 3, 16, 16), torch.arange(32)
    losses = []
    model.register_forward_hook(lambda module, inputs, logits: losses.append(logits.softmax(-1)[:, :32].sum().item()))
    exec(LOOP, {"model": model, "optimizer": optimizer, "batches": [(images, labels)] * 20})
    assert losses[-1] > 2 * losses[0]  # probability on the classes that there are


def test_a_method_is_added_with_one_file_and_one_yaml(tmp_path):
    for folder in ("src", "configs", "scripts"):
        shutil.copytree(SCRIPTS.parent / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "src" / "puzzlemix" / "mixing" / "halfmix.py").write_text(METHOD)
    (tmp_path / "configs" / "mixup" / "halfmix.yaml").write_text(METHOD_YAML)
    command = [sys.executable, "scripts/train.py", *TINY, "mixup=halfmix"]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": "src"}, check=True)
    assert (tmp_path / "results/runs/digits_preactresnet18_narrow_halfmix/seed0/metrics.json").is_file()

    names = {}
    exec(METHOD, names)
    images, labels = torch.rand(2, 3, 4, 4), torch.tensor([0, 3])
    mixed, targets = names["HalfMix"](num_classes=4)(None, images, labels, partner=torch.tensor([1, 0]))
    assert torch.equal(mixed, torch.cat([images[..., :2], images.flip(0)[..., 2:]], dim=-1))
    assert torch.equal(targets, torch.tensor([[0.5, 0, 0, 0.5], [0.5, 0, 0, 0.5]]))


@pytest.mark.parametrize("group", ["dataset", "network", "mixup", "recipe", "attack", "suite", "launcher"])
def test_the_options_that_it_lists_are_there(group):
    (listed,) = re.findall(rf"^\| `{group}` \| (.*) \|$", README, re.MULTILINE)
    files = [path.stem for path in (CONFIGS / group).glob("*.yaml")]
    assert sorted(listed.split(", ")) == sorted(files)


def test_the_experiments_and_folders_that_it_names_are_there():
    for pattern in re.findall(r"experiment=([\w*]+)", README):
        assert list((CONFIGS / "experiment").glob(f"{pattern}.yaml")), pattern
    for script in re.findall(r"scripts/(\w+)\.py", README):
        assert (SCRIPTS / f"{script}.py").is_file()
