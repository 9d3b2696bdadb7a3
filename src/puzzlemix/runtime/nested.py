"""Nested plain data, such as configs and results: how to flatten it, check its shape, and read it from a file."""

import json
from collections.abc import Mapping
from math import inf
from pathlib import Path
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


def has_shape(value: Any, shape: Any) -> bool:
    """Whether nested data has a shape, so that it can be used without further checks. A shape is one of these:

    - a type (a bool is no `int` here), or a function that returns whether a value fits,
    - a tuple of shapes: one of them must fit,
    - a list of one shape, for a list of any length; a list of several shapes, for a list with one item for each,
    - a dict, for a mapping with these keys and perhaps others: `key?` may be missing, and `*` means all values.
    """
    if isinstance(shape, dict):
        return isinstance(value, Mapping) and all(_has_entry(value, key, inner) for key, inner in shape.items())
    if isinstance(shape, list):
        inner = shape * len(value) if isinstance(value, list) and len(shape) == 1 else shape
        return isinstance(value, list) and len(value) == len(inner) and all(map(has_shape, value, inner))
    if isinstance(shape, tuple):
        return any(has_shape(value, one) for one in shape)
    if isinstance(shape, type):
        return isinstance(value, shape) and not (shape is int and isinstance(value, bool))
    return shape(value)


def is_plain(value: Any, levels: int = 20) -> bool:
    """Whether this is plain data: None, text, booleans, numbers, and lists and dicts of these, up to `levels` deep.

    The keys of dicts must be text. A list or dict that holds itself has no end, so it is not plain.
    """
    if isinstance(value, dict):
        return levels > 0 and all(isinstance(key, str) and is_plain(inner, levels - 1) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return levels > 0 and all(is_plain(inner, levels - 1) for inner in value)
    return value is None or isinstance(value, str | bool | int | float)


def is_number(value: Any) -> bool:
    """Whether this is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < inf


def is_percentage(value: Any) -> bool:
    """Whether this is a number from 0 to 100."""
    return is_number(value) and 0 <= value <= 100


def read_text(path: Path) -> str | None:
    """The text of a file; None if it cannot be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return None


def read_nested(path: Path) -> Any:
    """The plain data (`is_plain`) of a YAML or JSON file; None if it cannot be read or holds anything else."""
    text = read_text(path)
    return None if text is None else parse_nested(text, is_yaml=path.suffix == ".yaml")


def parse_nested(text: str, is_yaml: bool = False) -> Any:
    """The plain data (`is_plain`) that a JSON or YAML text describes; None if it describes anything else."""
    import yaml  # imported here, because networks.load does without it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, if PyYAML was built with it
    try:
        value = yaml.load(text, loader) if is_yaml else json.loads(text)
    except Exception:  # on damaged text the parsers also raise RecursionError, IndexError, KeyError and others
        return None
    return value if is_plain(value) else None


def _has_entry(value: Mapping[str, Any], key: str, shape: Any) -> bool:
    if key == "*":
        return all(has_shape(inner, shape) for inner in value.values())
    name = key.removesuffix("?")
    return has_shape(value[name], shape) if name in value else name != key
