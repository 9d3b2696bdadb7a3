"""The settings that a run's results depend on; two runs with equal settings are repetitions of each other."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from puzzlemix.runtime.nested import flatten

RESULT_DEPENDS_ON = ("dataset", "network", "mixup", "recipe")  # results also depend on the precision and the seed
WITHOUT_EFFECT = ("dataset.root", "dataset.workers")


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a config that its results depend on, except the seed, as a flat dict."""
    flat = flatten({key: config[key] for key in (*RESULT_DEPENDS_ON, "precision")})
    return {key: value for key, value in flat.items() if key not in WITHOUT_EFFECT}


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys in which two `settings` differ, with both values; None means that the key is missing."""
    keys = [*first, *(key for key in second if key not in first)]
    return {key: (first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)}


def fingerprint(config: Mapping[str, Any]) -> str:
    """A hash of `settings`: equal for runs that are repetitions of each other."""
    return settings_fingerprint(settings(config))


def settings_fingerprint(flat: Mapping[str, Any]) -> str:
    """A hash of flat settings."""
    return hashlib.sha256(canonical(flat).encode()).hexdigest()


def canonical(value: Any) -> str:
    """Plain data as JSON, the same text for equal data; 1 and 1.0 are equal."""
    return json.dumps(_in_floats(value), sort_keys=True)


def _in_floats(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _in_floats(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_in_floats(inner) for inner in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
