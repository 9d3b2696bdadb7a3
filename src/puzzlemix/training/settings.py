"""The settings of a run: those that its results depend on, and the command lines that give them."""

import hashlib
import json
import shlex
from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

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


def command(script: str, values: Mapping[str, Any]) -> str:
    """The command line `python scripts/<script>.py key=value ...` from which a shell and Hydra read these values."""
    return shlex.join(["python", f"scripts/{script}.py", *(f"{key}={_typed(value)}" for key, value in values.items())])


def key_of(override: str) -> str:
    """`+mixup.alpha=1` -> `mixup.alpha`."""
    return override.partition("=")[0].lstrip("+~")


def _typed(value: Any) -> str:
    """A number, a list of numbers or a text as the value of an override, in quotes if Hydra needs them."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(str, value))}]"
    text = str(value)
    try:
        is_unchanged = OverridesParser.create().parse_override(f"key={text}").value() in (text, value)
    except HydraException:
        is_unchanged = False
    return text if is_unchanged else QuotedString(text, Quote.double).with_quotes()
