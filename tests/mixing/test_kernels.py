"""The kernels for a GPU, in Triton's interpreter on the CPU: same masks, plans and images as the loops for a CPU.

They are also compiled for real GPUs, which needs none. Their speed is not tested.
"""

import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import test_puzzle_golden
import torch
from exact_proof import KINDS, count_failures, random_instances
from test_transport import cases, random_case
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from puzzlemix import puzzle_mix
from puzzlemix.mixing import assembly
from puzzlemix.mixing import cut as cut_of_masks
from puzzlemix.mixing import transport as transport_of_cells
from puzzlemix.mixing.blocks import cell_of_pixel
from puzzlemix.mixing.costs import _binomial
from puzzlemix.mixing.cut import solve_mask
from puzzlemix.mixing.transport import move_costs, transport_plan

triton = pytest.importorskip("triton")
from puzzlemix.mixing.kernels import cut, transport  # noqa: E402

KERNELS = [(cut, "_minimum_cuts"), (transport, "_plan_images")]


@pytest.fixture
def loops(monkeypatch):
    """After `loops()`, the kernels for a GPU work on tensors on the CPU."""

    def use():
        for module in (cut_of_masks, transport_of_cells, assembly):
            monkeypatch.setattr(module, "backend_for", lambda values: "triton")

    return use


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("grid", "n_labels"), [((1, 1), 3), ((2, 2), 2), ((5, 1), 4), ((2, 4), 3)])
def test_the_cut_is_the_minimum(loops, kind, grid, n_labels):
    loops()
    assert count_failures(kind, grid, n_labels, np.random.default_rng(0), batch=20 if grid == (1, 1) else 2) == 0


def test_the_cut_takes_more_nodes_than_a_program_has_lanes(loops, monkeypatch):
    monkeypatch.setattr(cut, "MAX_LANES", 32)
    costs, lam, eta = random_instances("images", (4, 5), 3, np.random.default_rng(0), batch=2)  # 40 nodes
    wanted = solve_mask(costs, lam, eta, 3, "exact")
    loops()
    assert torch.equal(solve_mask(costs, lam, eta, 3, "exact"), wanted)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_costs_that_are_not_finite_end_too(value):
    """On a GPU costs are not checked, and an endless loop could only be killed. The other image is not affected."""
    costs, _, _ = random_instances("images", (3, 3), 3, np.random.default_rng(0), batch=2)
    prior = torch.zeros(2, 3, dtype=torch.float64)
    wanted = cut.solve_images(costs, prior)[1]
    costs.keep_first[0, 1, 1] = costs.weight_down[0, 0, 2] = value
    assert torch.equal(cut.solve_images(costs, prior)[1], wanted)


@cases
def test_the_auction_has_the_same_winners(loops, grid, t_eps, power):
    saliency, visible = random_case(grid, power, batch=3)
    wanted = transport_plan(saliency, visible, t_eps)
    loops()
    assert torch.equal(transport_plan(saliency, visible, t_eps), wanted)


def test_the_auction_looks_at_few_costs_at_a_time(loops, monkeypatch):
    monkeypatch.setattr(transport, "TILE", 64)
    saliency, visible = random_case((5, 4), 3, batch=2)
    wanted = transport_plan(saliency, visible, 0.02)
    loops()
    assert torch.equal(transport_plan(saliency, visible, 0.02), wanted)


@pytest.mark.parametrize(
    "options",
    [
        {"blocks": 4, "lam": 0.4},
        {"blocks": (3, 5), "lam": torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64), "t_size": 3, "t_eps": 0.05},
        {"blocks": 4, "lam": 0.6, "gamma": 1.0},
        {"blocks": 2, "lam": 0.3, "n_labels": 4, "transport": False},
        {"blocks": 1, "lam": torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)},
    ],
)
def test_pictures_are_the_same_wherever_they_are_made(loops, options):
    torch.manual_seed(0)
    images, saliency = torch.rand(3, 2, 16, 20), torch.rand(3, 16, 20) ** 4
    partner = torch.tensor([1, 2, 0])
    wanted = puzzle_mix(images, saliency, partner, **options)
    loops()
    made = puzzle_mix(images, saliency, partner, **options)
    torch.testing.assert_close(made, wanted, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_views_and_memory_formats_mix_alike(loops, dtype):
    torch.manual_seed(0)
    images, saliency = torch.rand(3, 3, 16, 20).to(dtype), torch.rand(3, 16, 20) ** 4
    partner = torch.tensor([1, 2, 0])
    wanted = puzzle_mix(images, saliency, partner, lam=0.5, blocks=4, t_eps=0.05)
    loops()
    views = (
        images.transpose(2, 3).contiguous().transpose(2, 3),
        saliency.transpose(1, 2).contiguous().transpose(1, 2),
        torch.stack([partner, partner.flip(0)], dim=1)[:, 0],
    )
    made = puzzle_mix(*views, lam=0.5, blocks=4, t_eps=0.05)
    torch.testing.assert_close(made, wanted, atol=1e-6 if dtype == torch.float32 else 4e-3, rtol=0)


@pytest.mark.parametrize("name", ["mix_cifar100_b4_adv", "mix_tiny_b2"])
def test_golden_costs_and_pictures(loops, golden, name):
    loops()
    case = golden(name)
    test_puzzle_golden.test_costs_and_border_weights(case)
    test_puzzle_golden.test_mixed_images_and_shares(case)


# --- without waiting ---


class Copies(TorchDispatchMode):
    """Collects the copies between host and device, which make one wait for the other."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        given = [a for a in arguments if isinstance(a, torch.Tensor) and a.ndim > 0]
        if isinstance(result, torch.Tensor) and any(a.device != result.device for a in given):
            self.found.append((str(function), tuple(result.shape)))
        return result


class Unlaunched:
    """Stands for a kernel, because a kernel cannot be launched on tensors without data."""

    def __getitem__(self, grid):
        return lambda *arguments, **options: None


@pytest.fixture
def unlaunched(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_of", lambda tensor: nullcontext())  # there is no GPU
    for module, name in KERNELS:
        monkeypatch.setattr(module, name, Unlaunched())
    kept = (cut._arcs_on, cell_of_pixel, move_costs, _binomial)  # so that no real tensor meets a fake one
    for tables in kept:
        tables.cache_clear()
    yield
    for tables in kept:
        tables.cache_clear()


@pytest.mark.parametrize("size", [(32, 32), (30, 35)])
@pytest.mark.parametrize("lam", [0.3, "one an image"])
def test_a_gpu_is_not_waited_for(unlaunched, lam, size):
    """With fake tensors on a GPU, where reading a value is an error, and nothing is copied."""
    with FakeTensorMode():
        images, saliency = torch.rand(8, 3, *size, device="cuda"), torch.rand(8, *size, device="cuda")
        partner = torch.arange(8, device="cuda")
        lam = torch.rand(8, device="cuda") if lam != 0.3 else lam
        with Copies() as copies:
            made = puzzle_mix(images, saliency, partner, lam=lam, blocks=8, t_size=2)
        assert made.images.device.type == "cuda"
        assert copies.found == [("aten._to_copy.default", (10, 128))] * 2  # the arcs of the grid, once
        with Copies() as copies, pytest.raises(DataDependentOutputException):
            assert images.sum() > 0  # such a read would be noticed


class Allocated(TorchDispatchMode):
    """Counts the bytes of all tensors that are made, as if none were freed."""

    def __init__(self):
        super().__init__()
        self.storages = {}

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        if isinstance(result, torch.Tensor):
            self.storages[result.untyped_storage()._cdata] = result.untyped_storage()
        return result


def test_a_gpu_needs_little_memory(unlaunched):
    with FakeTensorMode(), Allocated() as made:
        images, saliency = torch.rand(100, 3, 64, 64, device="cuda"), torch.rand(100, 64, 64, device="cuda")
        given = len(made.storages)
        puzzle_mix(images, saliency, torch.arange(100, device="cuda"), lam=0.5, blocks=16)
    total = sum(storage.nbytes() for storage in list(made.storages.values())[given:])
    assert total < 80e6  # 16 times the images; costs of all moves of all cells would be 52e6 more


# --- compiled for GPUs, none being here ---

COMPILE = """
import sys, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from puzzlemix.mixing.kernels import cut, transport

def compile(kernel, warps, pointers, **constants):
    types = {name: "constexpr" for name in constants} | pointers
    signature = {name: types.get(name, "i32") for name in kernel.arg_names}
    target = GPUTarget("cuda", int(sys.argv[1]), 32)
    source = ASTSource(kernel, signature, constexprs=constants)
    made = triton.compile(source, target=target, options={"num_warps": warps})
    assert made.asm["cubin"]
    print(kernel.__name__, made.metadata.shared)

def floats(*names, type="*fp32"):
    return {name: type for name in names}

graph = floats("keep_first", "take_second", "weights") | floats("prior", "flows", type="*fp64")
graph |= floats("target", "back", "distance", "labels", type="*i32")
compile(cut._minimum_cuts, 16, graph, LAYERS=2, ROUNDS=16, LANES=512)
auction = floats("saliency", "move_cost", "offers") | {"visible": "*i1", "bids": "*i32", "plan": "*i64"}
compile(transport._plan_images, 8, auction, WIDTH=256, SOME=32)
compile(transport._plan_images, 4, auction, n_h=1, WIDTH=16, SOME=16)
"""


@pytest.mark.parametrize("compute_capability", [80, pytest.param(90, marks=pytest.mark.slow)])
def test_the_kernels_compile_for_nvidia_gpus(compute_capability, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("TRITON_INTERPRET")
    done = subprocess.run([sys.executable, "-c", COMPILE, str(compute_capability)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kernels = dict(line.split() for line in done.stdout.splitlines())
    assert len(kernels) == len(KERNELS)
    assert all(int(shared) < 48 * 1024 for shared in kernels.values())  # bytes that every GPU has
