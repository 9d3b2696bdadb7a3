"""Errors on corrupted images: of each corruption at each severity, and their means.

Never an mCE: that is divided by AlexNet's errors (Hendrycks and Dietterich, 2019), which CIFAR and Tiny-ImageNet lack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import mean
from typing import Any

from puzzlemix.corruptions.names import RELEASED, SEVERITIES, STANDARD
from puzzlemix.corruptions.sets import CorruptedImages
from puzzlemix.evaluation import Evaluator, Images


def corruption_errors(evaluator: Evaluator, images: CorruptedImages) -> dict[str, Any]:
    """Top-1 errors in percent on a set of corrupted images.

    Returns:
        `folder` of the set; `regenerated`, how it was made, None of a released one; `errors`, of each corruption that
        is there a list of five, None where a severity is missing; `error_of_19` and `error_of_15`, the means over the
        released and over the standard corruptions, None where one of them is not whole; `missing`, what is.
    """
    errors: dict[str, list[float | None]] = {}
    for name, whole in images.severities.items():
        errors[name] = [None] * len(SEVERITIES)
        for severity in whole:
            of_these = Images(range(images.images), partial(images.batches, name, severity))
            found, _ = evaluator.errors(f"{name} {severity}", images=of_these, of=images.identity)
            errors[name][SEVERITIES.index(severity)] = found
    return {
        "folder": str(images.folder),
        "regenerated": images.regenerated,
        "errors": errors,
        "error_of_19": mean_error(errors, RELEASED),
        "error_of_15": mean_error(errors, STANDARD),
        "missing": images.lacking,
    }


def mean_error(errors: Mapping[str, Sequence[float | None]], names: Sequence[str]) -> float | None:
    """The mean over corruptions of their means over severities; None where one of them is not whole."""
    of_each = [errors.get(name, [None]) for name in names]
    return None if any(None in one for one in of_each) else mean(mean(one) for one in of_each)
