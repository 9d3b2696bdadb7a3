"""What mixing does to images, as a vanilla classifier sees it: the five quantities of the paper's Figure 2.

For pairs of images (x0, x1) and a share lambda of x1, as on the figure's axis (`lam` of the mixers is the share of x0):

    (a) saliency        sum of h(s(x0), s(x1)): the saliency maps, each with the sum 1, mixed as the images are
    (b) variation       mean difference of neighbouring pixels in the mixed image, over channels and both directions
    (c) cross_entropy   of the classifier's prediction for the mixed image against its soft label, in nats
    (d) top1            whether the prediction is one of the two labels
    (e) top2            whether both labels are among the two best predictions
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import hypot, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from puzzlemix.evaluation.evaluator import Evaluator, Images
from puzzlemix.mixing import ManifoldMixup, Mixer, PuzzleMix, puzzle_mix
from puzzlemix.mixing.assembly import assemble
from puzzlemix.mixing.costs import block_saliency
from puzzlemix.mixing.saliency import input_gradient, saliency_of
from puzzlemix.reporting.tables import Table
from puzzlemix.reporting.verdict import compare_order
from puzzlemix.runtime.seeding import numpy_stream, torch_seed

PANELS = {
    "saliency": "mixed saliency",
    "variation": "total variation",
    "cross_entropy": "cross-entropy",
    "top1": "top-1 in {y0, y1}",
    "top2": "top-2 = {y0, y1}",
}
NAME = "mixing_statistics.json"  # in the folder of a run; its .png is the figure
LAMBDAS = tuple(i / 20 for i in range(21))
MIDDLE = LAMBDAS.index(0.5)


class Curve(NamedTuple):
    """A quantity at each of `LAMBDAS`: its mean over the pairs, and the standard error of the mean."""

    mean: list[float]
    error: list[float]


# By method and by panel. Manifold mixup has no mixed image, so only (c) to (e).
Statistics = dict[str, dict[str, Curve]]


@dataclass(frozen=True)
class Pairs:
    """Images that are paired at random within their batches, and their saliency.

    Attributes:
        evaluator: of the classifier, which also takes the saliency.
        images: the images.
        kept: the saliency of each batch's images, (B, H, W), by batch and precision, once it was needed.
    """

    evaluator: Evaluator
    images: Images
    kept: dict[tuple[int, str], Tensor] = field(default_factory=dict)

    def statistics(self, mixers: Mapping[str, Mixer]) -> Statistics:
        """The curves of every method, by name, for the same pairs."""
        found: Statistics = {}
        for name, mixer in mixers.items():
            panels = [*PANELS][2:] if isinstance(mixer, ManifoldMixup) else [*PANELS]
            points = [self.at(share, name, mixer, panels) for share in LAMBDAS]
            found[name] = {
                panel: Curve([point[panel][0] for point in points], [point[panel][1] for point in points])
                for panel in panels
            }
        return found

    def at(self, share: float | None, name: str, mixer: Mixer, panels: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Mean and standard error of each panel's quantity, for one method.

        `share` is that of the second image; None lets the method draw it.
        """
        size = len(panels)

        def measure(batch: int, pixels: Tensor, labels: Tensor) -> Tensor:
            values = self.values(mixer, panels, share, batch, pixels, labels)  # (panels, B)
            return torch.cat([values.sum(1), values.square().sum(1), values.new_tensor([values.shape[1]])])

        title = name if share is None else f"{name}, lambda {share:g}"
        sums = self.evaluator.total(title, 2 * size + 1, measure, self.images, variant=f"{len(self.images.places)}")
        count, found = sums[-1], {}
        for panel, total, squares in zip(panels, sums[:size], sums[size:-1], strict=True):
            mean = total / count
            variance = max(squares / count - mean**2, 0.0) * count / (count - 1)
            found[panel] = mean, sqrt(variance / count)
        return found

    def partner(self, batch: int, labels: Tensor) -> Tensor:
        """The partners (B,) of a batch's images, whose labels are (B,)."""
        generator = torch.Generator().manual_seed(torch_seed("pairs", self.evaluator.seed, batch))
        return torch.randperm(len(labels), generator=generator).to(labels.device)

    def saliency(self, batch: int, pixels: Tensor, labels: Tensor, precision: str = "same") -> Tensor:
        """The saliency of a batch's images, (B, H, W)."""
        if (batch, precision) not in self.kept:
            network = self.evaluator.network
            self.kept[batch, precision] = saliency_of(input_gradient(network, pixels, labels, precision), network)
        return self.kept[batch, precision]

    def values(
        self, mixer: Mixer, panels: Sequence[str], share: float | None, batch: int, pixels: Tensor, labels: Tensor
    ) -> Tensor:
        """The quantities of each pair of a batch, (panels, B) float64."""
        network, partner = self.evaluator.network, self.partner(batch, labels)
        mixer.draws.seed(self.evaluator.seed, batch)
        given = {"partner": partner} | ({} if share is None else {"lam": 1 - share})
        found = {}
        if "saliency" in panels:
            saliency = self.saliency(batch, pixels, labels)
            in_pixels = block_saliency(saliency, pixels.shape[2:])[0][:, None]  # (B, 1, H, W), each with the sum 1
        with torch.no_grad():
            if isinstance(mixer, PuzzleMix):
                drawn = {**mixer.draw(pixels, given), **given}
                options = {**vars(mixer.parameters), "blocks": drawn["blocks"], "lam": drawn["lam"]}
                seen = self.saliency(batch, pixels, labels, mixer.saliency_precision)
                puzzle = puzzle_mix(pixels, seen, partner, **options)
                mixed, targets = puzzle.images, mixer.mixed_targets(mixer.targets_of(labels), partner, puzzle.share)
                mixed_saliency = assemble(in_pixels, in_pixels, partner, puzzle.mask, puzzle.sources)
            else:
                mixed, targets = mixer(network, pixels, labels, **given)
                mixed_saliency = mixer.mix_again(in_pixels) if "saliency" in panels else None
            if "saliency" in panels:
                found |= {"saliency": mixed_saliency.sum((1, 2, 3)), "variation": total_variation(mixed)}
            if "cross_entropy" in panels:
                logits = network(mixed)  # (B, K), in which manifold mixup mixes the hidden state
                both = torch.stack([labels, labels[partner]], 1)  # (B, 2)
                best = logits.topk(2).indices  # (B, 2)
                found["cross_entropy"] = F.cross_entropy(logits, targets, reduction="none")
                found["top1"] = (both == best[:, :1]).any(1)
                found["top2"] = (both[:, :, None] == best[:, None]).any(2).all(1)
        return torch.stack([found[panel].double() for panel in panels])


def total_variation(images: Tensor) -> Tensor:
    """The mean difference of neighbouring pixels: (B, C, H, W) -> (B,)."""
    down, right = (images.diff(dim=dim).abs().flatten(1) for dim in (2, 3))
    return (down.sum(1) + right.sum(1)) / (down.shape[1] + right.shape[1])


def random_images(data: Any, count: int, of_training: bool, seed: int) -> Images:
    """Some images of a dataset, which is loaded, not augmented and in random order."""
    there = data.train_count if of_training else data.test_count
    places = numpy_stream("mixing statistics", seed).permutation(there)[:count].tolist()
    return Images(places, data.plain_train_batches if of_training else data.test_batches)


def published_curves(path: Path) -> dict[str, dict[str, list[float]]]:
    """The paper's curves by method and panel, read from the vector drawing of its Figure 2."""
    curves: dict[str, dict[str, list[float]]] = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            curves.setdefault(row["method"], {}).setdefault(row["panel"], []).append(float(row["value"]))
    return curves


def middle_table(statistics: Statistics, published: Mapping[str, Mapping[str, list[float]]]) -> Table:
    """The quantities at lambda 0.5: ours, the paper's, and both relative to lambda 0, where images are not mixed."""
    header = ("at lambda 0.5", "method", "here", "paper", "here, of unmixed", "paper, of unmixed")
    body = []
    for panel, title in PANELS.items():
        for name, panels in statistics.items():
            ours, theirs = panels.get(panel), published.get(name, {}).get(panel)
            if ours:
                here = f"{ours.mean[MIDDLE]:.4f} ± {ours.error[MIDDLE]:.4f}", f"{ours.mean[MIDDLE] / ours.mean[0]:.2f}"
                paper = (f"{theirs[MIDDLE]:.4f}", f"{theirs[MIDDLE] / theirs[0]:.2f}") if theirs else ("-", "-")
                body.append((title, name, here[0], paper[0], here[1], paper[1]))
    return Table("Figure 2 of the paper", header, body, orders(statistics, published))


def curves_table(statistics: Statistics) -> Table:
    """All points: a row for each method, panel and lambda."""
    rows = [
        (name, panel, f"{share:g}", repr(mean), repr(error))
        for name, panels in statistics.items()
        for panel, curve in panels.items()
        for share, mean, error in zip(LAMBDAS, *curve, strict=True)
    ]
    return Table("mixing statistics", ("method", "panel", "lambda", "mean", "standard error"), rows)


RELEASED = "as released for CIFAR-100, lambda 0.5"
PARTS: dict[str, dict[str, Any]] = {  # options of Puzzle Mix at lambda 0.5; the others are as released
    RELEASED: {},
    **{f"{n} blocks per side": {"blocks": n} for n in (2, 4, 8, 16)},
    **{f"{n} blocks per side, saliency in bf16": {"blocks": n, "saliency_precision": "bf16"} for n in (2, 4, 8, 16)},
    **{f"{m} labels": {"n_labels": m} for m in (2, 4)},
    "the released search for the mask": {"solver": "swap"},
    "no transport": {"transport": False},
    "transport of least cost": {"transport": "exact"},
    **{f"cost of moving {xi:g}": {"t_eps": xi} for xi in (0.08, 0.008)},
    "least cost, cost of moving 0.008": {"transport": "exact", "t_eps": 0.008},
}


def parts_table(pairs: Pairs) -> Table:
    """What each part of Puzzle Mix gives to panel (a), for the same pairs: at lambda 0.5, then over all lambda."""
    num_classes, rows = pairs.evaluator.data.num_classes, []

    def measure(title: str, share: float | None, **options: Any) -> tuple[float, float]:
        mixer = PuzzleMix(num_classes=num_classes, **{"t_size": 4, **options})
        return pairs.at(share, title, mixer, ["saliency"])["saliency"]

    def add(title: str, mean: float, error: float, base: float) -> None:
        rows.append((title, f"{mean:.4f}", f"{error:.4f}", f"{mean - base:+.4f}"))

    released, _ = measure(RELEASED, 0.5)
    for title, options in PARTS.items():
        add(title, *measure(title, 0.5, **options), released)
    curve = [measure(RELEASED, share) for share in LAMBDAS]
    weights = [0.5 if share in (0, 1) else 1.0 for share in LAMBDAS]  # of the trapezoid rule
    mean, error = (
        sum(weight * point[i] for weight, point in zip(weights, curve, strict=True)) / sum(weights) for i in (0, 1)
    )
    add("mean over lambda", mean, error, mean)
    add("lambda drawn for each image", *measure("lambda drawn for each image", None, per_sample=True), mean)
    header = ("Puzzle Mix", "mixed saliency", "standard error", "difference")
    return Table(f"mixed saliency, {len(pairs.images.places)} images", header, rows)


def draw_panels(path: Path, statistics: Statistics, published: Mapping[str, Mapping[str, list[float]]]) -> None:
    """Draw Figure 2 as a PNG: our curves with two standard errors, the paper's dashed behind them."""
    from matplotlib.figure import Figure  # here, since matplotlib takes a second

    from puzzlemix.reporting.figures import COLOURS
    from puzzlemix.reporting.pictures import save_picture

    figure = Figure(figsize=(13, 2.9), layout="constrained")
    for ax, (panel, title), letter in zip(figure.subplots(1, len(PANELS)), PANELS.items(), "abcde", strict=True):
        for (name, panels), colour in zip(statistics.items(), COLOURS, strict=False):
            if theirs := published.get(name, {}).get(panel):
                ax.plot(LAMBDAS, theirs, "--", color=colour, alpha=0.6, linewidth=1)
            if ours := panels.get(panel):
                ax.errorbar(
                    LAMBDAS, ours.mean, [2 * error for error in ours.error], color=colour, label=name, capsize=1
                )
        ax.set_title(f"({letter}) {title}", fontsize=9)
        ax.set_xlabel("lambda")
        ax.spines[["top", "right"]].set_visible(False)
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    save_picture(figure, path)


def orders(statistics: Statistics, published: Mapping[str, Mapping[str, list[float]]]) -> list[str]:
    """A line for each panel: whether the methods are in the paper's order at lambda 0.5, by two standard errors."""
    lines = []
    for panel, title in PANELS.items():
        here = {name: panels[panel] for name, panels in statistics.items() if panel in panels}
        there = {name: published[name][panel][MIDDLE] for name in here if panel in published.get(name, {})}

        def difference(low: str, high: str, here: Mapping[str, Curve] = here) -> float:
            above = here[high].mean[MIDDLE] - here[low].mean[MIDDLE]
            return above * (abs(above) > 2 * hypot(here[high].error[MIDDLE], here[low].error[MIDDLE]))

        lines.append(f"{title}: {compare_order(there, difference, 'two standard errors')}")
    return lines
