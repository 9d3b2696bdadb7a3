"""What the benchmarks of training and of loading say of small loads, trained for real."""

import time

import pytest
import torch
from PIL import Image
from test_experiments import compose

from benchmarks import data, scale, training
from benchmarks.photographs import Photographs, crops
from puzzlemix.cli.config import plain

SMALL = ["dataset.train_per_class=5", "network.initial_channels=4", "recipe.batch_size=10", "device=cpu"]


def composed(overrides):
    return plain(compose(*overrides))


def test_the_parts_of_a_step_are_all_of_it():
    settings = {"plain": training.PLAIN, "default": ()}
    start_s = time.perf_counter()
    methods = ("vanilla", "puzzlemix", "augmix")
    times = training.measure(composed, SMALL, settings, methods, repeats=2)
    passed_ms = 1000 * (time.perf_counter() - start_s)
    assert list(times) == [(s, m) for s in settings for m in methods]
    assert 0 < sum(sum(epoch.values()) for epochs in times.values() for epoch in epochs) * 5 < passed_ms
    for (_, method), epochs in times.items():
        assert len(epochs) == 2
        for epoch in epochs:
            assert min(epoch[part] for part in ("data", "mixing", "network", "optimizer")) > 0
            assert (epoch["saliency"] > 0) == (method == "puzzlemix")


def test_every_setting_is_one_that_a_run_takes():
    for overrides in training.SETTINGS.values():
        composed(["name=any", *overrides, *training.on_photographs(10, 32, 5, 4)])


def test_photographs_are_as_many_and_as_large_as_asked_for():
    size = {"train_images": 7, "test_images": 3, "image_size": (20, 24)}
    dataset = Photographs(name="photographs", num_classes=3, mean=[0.5] * 3, std=[0.5] * 3, **size)
    dataset.load(torch.device("cpu"))
    (images, labels), *_ = dataset.train_batches(7, False, seed=0, epoch=0)
    assert images.shape == (7, 3, 20, 24)
    assert sorted(labels.tolist()) == [0, 0, 0, 1, 1, 2, 2]
    assert not torch.equal(crops(7, 20, 24, seed=0), crops(7, 20, 24, seed=1))


def test_both_sides_of_the_comparison_of_loading_see_the_same_images(tmp_path):
    for here, there in (data._arrays(torch.device("cpu")), data._files(tmp_path, torch.device("cpu"), per_class=5)):
        ours, theirs = (list(batches(0)) for batches in (here, there))
        for (x, y), (x_there, y_there) in zip(ours, theirs, strict=True):
            assert x.shape == x_there.shape
            assert y.shape == y_there.shape
        assert sorted(torch.cat([y for _, y in ours]).tolist()) == sorted(torch.cat([y for _, y in theirs]).tolist())
    assert 0 < data._images_per_s(ours) < 1e9


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_scale_is_measured_on_real_runs_and_drawn(tmp_path, processes):
    base = scale.Load(images=100, pixels=16, batch=50)
    points = list(scale.benchmark("cpu", base, {"processes": (processes,)}))
    assert [point.load for point in points] == [base._replace(processes=processes)]
    assert all(seconds > 0 for point in points for seconds in point.seconds)
    assert points[0].row()[:5] == ("processes", "100", "16", "50", str(processes))
    picture = tmp_path / "scale.png"
    scale.plot(points, picture)
    with Image.open(picture) as image:
        assert image.size[0] > 300
