"""What of a config a run's results depend on: whether two runs are repetitions of each other, and if not, why."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from puzzlemix.nested import flatten

RESULT_DEPENDS_ON = ("dataset", "network", "mixup", "recipe")  # and on the precision and the seed
WITHOUT_EFFECT = ("dataset.root", "dataset.workers")


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """All of a config that its results depend on but the seed, flat."""
    flat = flatten({key: config[key] for key in (*RESULT_DEPENDS_ON, "precision")})
    return {key: value for key, value in flat.items() if key not in WITHOUT_EFFECT}


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys in which two `settings` differ, with both values; None of a key that is not there."""
    keys = [*first, *(key for key in second if key not in first)]
    return {key: (first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)}


def fingerprint(config: Mapping[str, Any]) -> str:
    """A hash of `settings`: equal for runs that are repetitions of each other."""
    return hashlib.sha256(canonical(settings(config)).encode()).hexdigest()


def canonical(value: Any) -> str:
    """Plain data as JSON, the same for equal data: 1 and 1.0 are."""
    return json.dumps(_in_floats(value), sort_keys=True)


def _in_floats(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _in_floats(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_in_floats(inner) for inner in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
