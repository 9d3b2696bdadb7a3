"""Nested plain data, such as configs and results: how to flatten it, check its shape, and read it from any file."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it

# Limits that are far above what our own files need.
MOST_BYTES = {".yaml": 2**18, ".json": 2**24, ".jsonl": 2**24, ".txt": 2**16}
MOST_VALUES = 100_000  # and characters
DEEPEST = 20  # levels of containers
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
    """Whether nested data has a shape, so that it can be used without further checks. A shape is one of these:

    - a type (a bool is no `int` here), or a function that returns whether a value fits,
    - a tuple of shapes: one of them must fit,
    - a list of one shape, for a list of any length; a list of several, for a list of exactly these,
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
    """Whether this is plain data: None, text, booleans, 64-bit numbers, and lists and dicts of these, up to a size.

    The size is checked on the way, since a few lists that hold each other several times unfold to many.
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
    """Whether this is a finite number, of a size that can be shown."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def is_percentage(value: Any) -> bool:
    """Whether this is a number from 0 to 100."""
    return is_number(value) and 0 <= value <= 100


def read_text(path: Path) -> str | None:
    """The text of a file; None if it cannot be read or is longer than `MOST_BYTES`."""
    most = MOST_BYTES[path.suffix]
    try:
        if not path.is_file():
            return None  # reading a pipe would wait
        with path.open("rb") as file:
            content = file.read(most + 1)
        return content.decode() if len(content) <= most else None
    except (OSError, UnicodeDecodeError):
        return None


def read_nested(path: Path) -> Any:
    """The plain data of a YAML or JSON file; None if it cannot be read or holds anything else."""
    text = read_text(path)
    return None if text is None else parse_nested(text, _load_yaml if path.suffix == ".yaml" else json.loads)


def parse_nested(text: str, load: Callable[[str], Any] = json.loads) -> Any:
    """The plain data (`is_plain`) that a text stands for; None if it stands for anything else."""
    try:
        value = load(text)
        return value if is_plain(value) else None
    except Exception:  # on damaged text the readers also raise RecursionError, IndexError, KeyError and others
        return None


def _has_entry(value: Mapping[str, Any], key: str, shape: Any) -> bool:
    if key == "*":
        return all(has_shape(inner, shape) for inner in value.values())
    name = key.removesuffix("?")
    return has_shape(value[name], shape) if name in value else name != key


def _load_yaml(text: str) -> Any:
    """Read YAML without aliases, which may unfold to any size or hold themselves, and not deeper than C code can."""
    depth = 0
    for event in yaml.parse(text, YAML_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST or isinstance(event, yaml.AliasEvent):
            return None
    return yaml.load(text, YAML_LOADER)


def _is_leaf(value: Any) -> bool:
    if type(value) is str:
        return value == value.encode(errors="replace").decode()  # half a surrogate pair cannot be printed
    if type(value) is int:
        return abs(value) <= sys.maxsize
    return value is None or type(value) in (bool, float)
