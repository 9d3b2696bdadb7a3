"""Nested dicts, as configs and results are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flatten(nested: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """`{"recipe": {"lr": 0.1}}` -> `{"recipe.lr": 0.1}`."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}{separator}{inner}": leaf for inner, leaf in flatten(value, separator).items()}
        else:
            flat[str(key)] = value
    return flat
