"""Errors on corrupted images, for each corruption at each severity, and their means.

There is no mCE: it needs AlexNet's errors (Hendrycks and Dietterich, 2019), which CIFAR and Tiny-ImageNet lack.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import mean
from typing import Any

from puzzlemix.data.corrupted import RELEASED, SEVERITIES, STANDARD, CorruptedImages
from puzzlemix.evaluation.evaluator import Evaluator, Images


def corruption_errors(evaluator: Evaluator, images: CorruptedImages) -> dict[str, Any]:
    """Top-1 errors in percent on a set of corrupted images.

    Returns:
        `folder` of the set; `errors`, a list of five for each corruption of the set; `error_of_19` and `error_of_15`,
        the means over the released and over the standard corruptions, None if one is missing; `missing`, the missing
        corruptions in words.
    """
    errors: dict[str, list[float]] = {}
    for name, read in images.corruptions.items():
        errors[name] = []
        for severity in SEVERITIES:
            these = Images(evaluator.test_images.places, partial(read, severity))
            found, _ = evaluator.errors(f"{name} {severity}", images=these, variant=str(images.folder.resolve()))
            errors[name].append(found)
    return {
        "folder": str(images.folder),
        "errors": errors,
        "error_of_19": mean_error(errors, RELEASED),
        "error_of_15": mean_error(errors, STANDARD),
        "missing": images.missing,
    }


def mean_error(errors: Mapping[str, Sequence[float]], names: Sequence[str]) -> float | None:
    """The mean over corruptions of their means over severities; None if one is missing."""
    return mean(mean(errors[name]) for name in names) if errors.keys() >= set(names) else None
