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
        `folder` of the set; `errors`, a list of five for each corruption of the set, None where a severity is missing;
        `error_of_19` and `error_of_15`, the means over the released and over the standard corruptions, None if a
        severity of one is missing; `missing`, the missing parts in words.
    """
    errors: dict[str, list[float | None]] = {}
    for name, whole in images.severities.items():
        errors[name] = [None] * len(SEVERITIES)
        for severity in whole:
            these = Images(evaluator.test_images.places, partial(images.read, name, severity))
            found, _ = evaluator.errors(f"{name} {severity}", images=these, variant=str(images.folder.resolve()))
            errors[name][SEVERITIES.index(severity)] = found
    return {
        "folder": str(images.folder),
        "errors": errors,
        "error_of_19": mean_error(errors, RELEASED),
        "error_of_15": mean_error(errors, STANDARD),
        "missing": images.lacking,
    }


def mean_error(errors: Mapping[str, Sequence[float | None]], names: Sequence[str]) -> float | None:
    """The mean over corruptions of their means over severities; None if a severity of one is missing."""
    of_each = [errors.get(name, [None]) for name in names]
    return None if any(None in one for one in of_each) else mean(mean(one) for one in of_each)
