"""The quantities of Figure 2, each against a plain loop, and the script that measures them."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from puzzlemix import CutMix, InputMixup, ManifoldMixup, PuzzleMix, puzzle_mix
from puzzlemix.evaluation.evaluator import Evaluator, Images
from puzzlemix.mixing.assembly import assemble
from puzzlemix.mixing.saliency import input_gradient, saliency_of
from puzzlemix.reporting import mixing_statistics as figure2
from puzzlemix.runtime.errors import PreemptedError

K = 10


class Digits:
    """The small digits as a dataset."""

    num_classes, evaluated_on = K, "test"

    def __init__(self, images, labels):
        self.images, self.labels, self.test_count, self.train_count = images, labels, len(labels), len(labels)

    def test_batches(self, shards):
        for shard in shards:
            yield self.images[list(shard)], self.labels[list(shard)]


@pytest.fixture(scope="module")
def evaluator(network, digits):
    images, labels = digits
    return Evaluator(network, Digits(images[:60], labels[:60]), batch_size=20, seed=3)


def values_of(evaluator, mixer, share, panels=tuple(figure2.PANELS)):
    """Mean and standard error of each panel, the quantities of every pair, and the pairs."""
    found, batches = [], []
    measured = figure2.Pairs(evaluator, evaluator.test_images)
    real = figure2.Pairs.values

    def kept(self, mixer, panels, share, batch, pixels, labels):
        found.append(real(self, mixer, panels, share, batch, pixels, labels))
        batches.append((pixels, labels, self.partner(batch, labels)))
        return found[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure2.Pairs, "values", kept)
        points = measured.at(share, "any", mixer, list(panels))
    return points, torch.cat(found, 1), batches


def test_mean_and_standard_error_are_those_of_the_pairs(evaluator):
    points, values, _ = values_of(evaluator, InputMixup(num_classes=K), 0.3)
    for row, panel in zip(values, figure2.PANELS, strict=True):
        mean, error = points[panel]
        assert mean == pytest.approx(row.mean().item(), abs=1e-9)
        assert error == pytest.approx(row.std().item() / len(row) ** 0.5, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("share", [0.0, 0.35, 1.0])
def test_input_mixup_is_a_plain_loop(evaluator, share):
    network = evaluator.network
    _, values, pairs = values_of(evaluator, InputMixup(num_classes=K), share)
    wanted = []
    for images, labels, partner in pairs:
        for i in range(len(images)):
            j = int(partner[i])
            mixed = (1 - share) * images[i] + share * images[j]
            with torch.no_grad():
                probability = network(mixed[None])[0].softmax(0).tolist()
            loss = -(1 - share) * math.log(probability[labels[i]]) - share * math.log(probability[labels[j]])
            best = sorted(range(K), key=lambda k: -probability[k])[:2]
            both = {int(labels[i]), int(labels[j])}
            wanted.append([1.0, variation(mixed), loss, float(best[0] in both), float(both <= set(best))])
    torch.testing.assert_close(values.T, torch.tensor(wanted, dtype=torch.float64), rtol=1e-4, atol=1e-5)


def variation(image):
    """The mean difference of neighbours, pair by pair."""
    channels, height, width = image.shape
    differences = []
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                if y + 1 < height:
                    differences.append(abs(float(image[c, y + 1, x]) - float(image[c, y, x])))
                if x + 1 < width:
                    differences.append(abs(float(image[c, y, x + 1]) - float(image[c, y, x])))
    return sum(differences) / len(differences)


def test_puzzle_mix_moves_and_masks_the_saliency_as_the_images(evaluator):
    network, mixer = evaluator.network, PuzzleMix(num_classes=K, blocks=4)
    _, values, pairs = values_of(evaluator, mixer, 0.5)
    wanted = []
    for images, labels, partner in pairs:
        saliency = saliency_of(input_gradient(network, images, labels), network)
        puzzle = puzzle_mix(images, saliency, partner, lam=0.5, blocks=4)
        size = images.shape[-1] // 4  # pixels per block
        for i in range(len(images)):
            total = 0.0
            for cell in range(16):
                for side, image, z in ((0, i, puzzle.mask[i]), (1, int(partner[i]), 1 - puzzle.mask[i])):
                    source = int(puzzle.sources[side, i].flatten()[cell])
                    y, x = source // 4 * size, source % 4 * size
                    s = saliency[image] / saliency[image].sum()
                    total += float(z.flatten()[cell]) * float(s[y : y + size, x : x + size].sum())
            wanted.append(total)
    torch.testing.assert_close(values[0], torch.tensor(wanted, dtype=torch.float64), rtol=1e-4, atol=1e-5)
    assert values[0].mean() > 1.05


def test_cutmix_cuts_the_same_box_from_the_saliency(evaluator):
    _, values, _ = values_of(evaluator, CutMix(num_classes=K), 0.0)
    torch.testing.assert_close(values[0], torch.ones(60, dtype=torch.float64), rtol=0, atol=1e-5)
    _, values, _ = values_of(evaluator, CutMix(num_classes=K), 0.5)
    assert values[0].std() > 0.05
    assert abs(values[0].mean() - 1) < 3 * values[0].std() / 60**0.5


def test_manifold_mixup_mixes_hidden_states(evaluator):
    panels = ("cross_entropy", "top1", "top2")
    _, at_input, pairs = values_of(evaluator, ManifoldMixup(layers=(0,), num_classes=K), 0.3, panels)
    _, of_input, _ = values_of(evaluator, InputMixup(num_classes=K), 0.3, panels)
    torch.testing.assert_close(at_input, of_input)
    _, hidden, _ = values_of(evaluator, ManifoldMixup(layers=(2,), num_classes=K), 0.3, panels)
    network, wanted = evaluator.network, []
    for images, labels, partner in pairs:
        with torch.no_grad():
            state = network.layer2(network.layer1(network.conv1(network.normalize(images))))
            state = 0.7 * state + 0.3 * state[partner]
            logits = network.linear(network.layer4(network.layer3(state)).mean((2, 3)))
        targets = 0.7 * torch.eye(K)[labels] + 0.3 * torch.eye(K)[labels[partner]]
        wanted.append(F.cross_entropy(logits, targets, reduction="none"))
    torch.testing.assert_close(hidden[0], torch.cat(wanted).double(), rtol=1e-4, atol=1e-5)


def test_the_pairs_of_all_methods_and_shares_are_the_same(evaluator):
    pairs = [
        values_of(evaluator, method(num_classes=K), share)[2] for method in (InputMixup, CutMix) for share in (0, 0.5)
    ]
    for other in pairs[1:]:
        assert all(torch.equal(a[2], b[2]) for a, b in zip(pairs[0], other, strict=True))


def test_an_image_without_saliency_counts_as_uniform(evaluator, digits):
    images = evaluator.data.images.clone()
    data = Digits(torch.zeros_like(images), evaluator.data.labels)
    blank = Evaluator(evaluator.network, data, batch_size=20)
    pairs = figure2.Pairs(blank, Images(range(20), data.test_batches))
    mean, error = pairs.at(0.5, "any", InputMixup(num_classes=K), ["saliency"])["saliency"]
    assert (mean, error) == (pytest.approx(1), pytest.approx(0, abs=1e-6))


def curves(**middle):
    """Statistics in which every panel of a method has this mean at lambda 0.5, with a standard error of 1."""
    return {
        name: {panel: figure2.Curve([10.0] * 10 + [value] + [10.0] * 10, [1.0] * 21) for panel in figure2.PANELS}
        for name, value in middle.items()
    }


def test_the_order_is_judged_beyond_two_standard_errors():
    published = {name: {panel: c.mean for panel, c in of.items()} for name, of in curves(a=1, b=2, c=3).items()}
    line = figure2.orders(curves(a=10, b=20, c=5), published)[0]
    assert line == "mixed saliency: 1 of 3 pairs as published, 2 the other way round (a above c; b above c)"
    line = figure2.orders(curves(a=10, b=12, c=20), published)[0]
    assert line == "mixed saliency: 2 of 3 pairs as published, 1 too close to decide by two standard errors"


def test_the_papers_curves_are_those_of_its_figure():
    from conftest import SCRIPTS

    published = figure2.published_curves(SCRIPTS.parent / "results" / "paper" / "figure2" / "curves.csv")
    at_half = {
        name: [round(of[panel][10], 3) for panel in figure2.PANELS if panel in of] for name, of in published.items()
    }
    assert at_half["puzzlemix"] == [1.228, 0.05, 4.779, 0.62, 0.052]
    assert at_half["manifold"] == [5.75, 0.327, 0.01]
    assert all(len(values) == 21 for of in published.values() for values in of.values())


def test_the_script_writes_all_and_goes_on_where_it_was_stopped(script, finished, tmp_path, capsys, monkeypatch):
    checkpoint, output = finished / "checkpoints" / "last.pt", tmp_path / "figure2.json"
    arguments = [f"checkpoint={checkpoint}", "images=40", "test_batch_size=20", f"output={output}", "device=cpu"]
    arguments += ["methods=[puzzlemix,input]", "train_images=false"]
    real, calls = figure2.Pairs.values, []

    def stopped_at_the_30th(self, *given):
        calls.append(given)
        if len(calls) == 30:
            raise PreemptedError
        return real(self, *given)

    monkeypatch.setattr(figure2.Pairs, "values", stopped_at_the_30th)
    with pytest.raises(SystemExit):
        script("mixing_statistics", *arguments)
    assert output.with_name("figure2_unfinished.json").exists()
    script("mixing_statistics", *arguments)
    assert len(calls) == 30 + 2 * 2 * 21 - 28  # 14 points of two batches were kept
    assert not output.with_name("figure2_unfinished.json").exists()

    shown = capsys.readouterr().out
    assert "mixed saliency: " in shown
    results = output.read_text()
    assert set(json.loads(results)["methods"]) == {"puzzlemix", "input"}
    assert len(json.loads(results)["methods"]["puzzlemix"]["saliency"]["mean"]) == 21
    assert output.with_suffix(".png").stat().st_size > 10_000
    assert len(output.with_suffix(".csv").read_text().splitlines()) == 1 + 2 * 5 * 21
    script("mixing_statistics", *arguments)  # without an interruption
    assert output.read_text() == results


def test_the_parts_are_measured_with_the_saliency_of_full_precision(evaluator):
    large = F.interpolate(evaluator.data.images, scale_factor=2)  # (60, C, 16, 16), for grids of 16 blocks
    evaluator = Evaluator(evaluator.network, Digits(large, evaluator.data.labels), batch_size=20, seed=3)
    table = figure2.parts_table(pairs := figure2.Pairs(evaluator, evaluator.test_images))
    found = {title: float(mean) for title, mean, *_ in table.rows}
    assert [*found] == [*figure2.PARTS, "mean over lambda", "lambda drawn for each image"]

    mixer = PuzzleMix(num_classes=K, blocks=8, t_size=4, saliency_precision="bf16")
    wanted = []
    for batch, (images, labels) in enumerate(evaluator.data.test_batches([range(i, i + 20) for i in (0, 20, 40)])):
        partner = pairs.partner(batch, labels)
        seen = saliency_of(input_gradient(evaluator.network, images, labels, "bf16"), evaluator.network)
        puzzle = puzzle_mix(images, seen, partner, lam=0.5, blocks=8, **vars(mixer.parameters))
        full = saliency_of(input_gradient(evaluator.network, images, labels), evaluator.network)
        full = (full / full.sum((1, 2), keepdim=True))[:, None]
        mixed = assemble(full, full, partner, puzzle.mask, puzzle.sources)
        wanted += mixed.sum((1, 2, 3)).tolist()
    assert found["8 blocks per side, saliency in bf16"] == pytest.approx(sum(wanted) / len(wanted), abs=1e-4)
    assert found["lambda drawn for each image"] == pytest.approx(found["mean over lambda"], abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["methods=[puzlemix]"], "puzlemix"),
        (["images=1"], "images must be a whole number, at least 2"),
        (["methods=[]"], "methods must name some"),
    ],
)
def test_bad_input_is_one_line(script, finished, arguments, message):
    with pytest.raises(SystemExit, match=message):
        script("mixing_statistics", f"checkpoint={finished}/checkpoints/last.pt", "device=cpu", *arguments)
