"""Nested data, as configs and results are: flat, of a shape, and read from files that anybody may have changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it

# Limits that no file of ours comes near.
MOST_BYTES = {".yaml": 2**18, ".json": 2**24, ".jsonl": 2**24, ".txt": 2**16}
MOST_VALUES = 100_000  # and characters
DEEPEST = 20  # containers in containers
LARGEST = 1e15


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
    """Whether nested data has a shape, so that it can be used without further checks. A shape is

    - a type, where True and False are no `int`, or a function that returns a bool,
    - a tuple of shapes, one of which must fit,
    - a list of one shape, for lists of any length, or of several, for lists of exactly these,
    - a dict, for a mapping with these keys and perhaps others: `key?` may be missing, `*` stands for all values.
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


def is_plain(value: Any) -> bool:
    """Whether this is plain data: None, text, truth values, numbers of 64 bits, and lists and dicts of them, not many.

    A few lists that hold each other several times would be many to go through, so the size is checked on the way.
    """
    waiting, size = [(value, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        inner: Sequence[Any] = ()
        if type(value) is dict and all(type(key) is str for key in value):
            inner = [*value, *value.values()]
        elif type(value) in (list, tuple):
            inner = value
        elif not _is_leaf(value):
            return False
        size += len(value) if type(value) is str else len(inner)
        if size > MOST_VALUES or depth > DEEPEST:
            return False
        waiting += [(each, depth + 1) for each in inner]
    return True


def is_number(value: Any) -> bool:
    """A finite number of a size that can be shown."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def is_percentage(value: Any) -> bool:
    """A number from 0 to 100."""
    return is_number(value) and 0 <= value <= 100


def read_text(path: Path) -> str | None:
    """The text of a file; None where it cannot be read, or is longer than `MOST_BYTES`."""
    most = MOST_BYTES[path.suffix]
    try:
        if not path.is_file():
            return None  # a pipe would be waited for
        with path.open("rb") as file:
            content = file.read(most + 1)
        return content.decode() if len(content) <= most else None
    except (OSError, UnicodeDecodeError):
        return None


def read_nested(path: Path) -> Any:
    """The data of a YAML or JSON file, as `parse_nested` gives it; None also where the file cannot be read."""
    text = read_text(path)
    return None if text is None else parse_nested(text, _load_yaml if path.suffix == ".yaml" else json.loads)


def parse_nested(text: str, load: Callable[[str], Any] = json.loads) -> Any:
    """Plain data of a text (`is_plain`); None of any other text."""
    try:
        value = load(text)
        return value if is_plain(value) else None
    except Exception:  # of damaged text the readers also raise RecursionError, IndexError, KeyError and others
        return None


def _has_entry(value: Mapping[str, Any], key: str, shape: Any) -> bool:
    if key == "*":
        return all(has_shape(inner, shape) for inner in value.values())
    name = key.removesuffix("?")
    return has_shape(value[name], shape) if name in value else name != key


def _load_yaml(text: str) -> Any:
    """YAML without aliases, which may unfold to any size or hold themselves; `DEEPEST` since the C code overflows."""
    depth = 0
    for event in yaml.parse(text, YAML_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST or isinstance(event, yaml.AliasEvent):
            return None
    return yaml.load(text, YAML_LOADER)


def _is_leaf(value: Any) -> bool:
    if type(value) is str:
        return value == value.encode(errors="replace").decode()  # half of a surrogate pair cannot be printed
    if type(value) is int:
        return abs(value) <= sys.maxsize
    return value is None or type(value) in (bool, float)
