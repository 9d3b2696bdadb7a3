"""Golden vectors: inputs and outputs of the authors' released code, as `golden/README.md` describes them."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def golden():
    """`golden("mix_tiny_b2")`: arrays as tensors, `meta` as a namespace, images (B, 3, H, W) in [0, 1]."""

    def load(name):
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            vectors = {k: torch.from_numpy(arrays[k]) for k in arrays.files if k != "meta"}
            vectors["meta"] = SimpleNamespace(**json.loads(str(arrays["meta"])))
        vectors["images"] = vectors["images"].permute(0, 3, 1, 2).float() / 255
        return vectors

    return load
