"""What the names in a pickle of unknown origin may stand for: plain data, and nothing that runs.

A name of `CALLS` stands for a function of this file, which makes data of its arguments. A name of `VALUES` may be an
argument of one. Any other name of Python's standard library, torch or numpy is refused wherever it appears: those are
what a pickle can do harm with. What is left must be a class of the authors' own, whose objects become `Inert`.
"""

from __future__ import annotations

import re
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from puzzlemix import errors

TODAY = {  # how Python 2, whose names protocol 2 writes, and numpy 1 call modules: what they are called now
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "numpy.core.multiarray": "numpy._core.multiarray",
}
LIBRARIES = {*sys.stdlib_module_names, "torch", "numpy"}
DIMENSIONS = 64  # of tensors, at most
NUMBERS = re.compile(r"[<|=]?([iu][1248]|f[248]|b1)")  # as numpy writes dtypes of little-endian numbers


class RefusedError(Exception):
    """A pickle names what is not on the list; the message is the name, fit to be printed."""

    def __init__(self, name: object):
        super().__init__(printable(name))


@dataclass(frozen=True)
class Name:
    """Of a class or function. No tuple, since tuples come from the file too, and must not pass for names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Inert:
    """An object of a class that is not here: what the class is called, and the attributes that the file gives."""

    of: Name
    attributes: Any = None


@dataclass(eq=False)
class StoredArray:
    """A numpy array as it is stored."""

    shape: tuple[int, ...]
    dtype: np.dtype
    column_major: bool
    raw: bytes | str  # as text in latin1: see `_encoded`

    def values(self) -> np.ndarray:
        """The array, read-only. Raises `ValueError` or `TypeError` where bytes and shape do not fit."""
        raw = self.raw.encode("latin1") if isinstance(self.raw, str) else self.raw
        return np.frombuffer(raw, self.dtype).reshape(self.shape, order="F" if self.column_major else "C")


class Storage(NamedTuple):
    """A stretch of numbers in a file, which tensors are cut from."""

    key: str
    dtype: torch.dtype


class StoredTensor(NamedTuple):
    """A tensor as it is stored: a storage, the offset of its first number, its shape, and the steps along its axes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def printable(text: object) -> str:
    """What comes from a file, fit for one line on a terminal."""
    return errors.printable(str(text)[:100])


def named(module: str, name: str) -> Name:
    """A name that a pickle mentions, once it is clear that it stands for data.

    Raises:
        RefusedError: it does not.
    """
    if not (isinstance(module, str) and isinstance(name, str)):
        raise ValueError("not a name")
    found = Name(TODAY.get(module, module), name)
    if found in CALLS or found in VALUES or _of_the_authors(found):
        return found
    raise RefusedError(found)


def called(function: Any, arguments: tuple[Any, ...]) -> Any:
    """What a function would give that a pickle wants called.

    Raises:
        RefusedError: it is not one of `CALLS`.
    """
    if not (isinstance(function, Name) and isinstance(arguments, tuple)):
        raise ValueError("not a call")
    if function not in CALLS:
        raise RefusedError(function)
    return CALLS[function](*arguments)


def new_object(of: Any) -> Inert:
    """An object of a class that a pickle wants made; without what the class's constructor would do.

    Raises:
        RefusedError: it is no class of the authors'.
    """
    if not isinstance(of, Name):
        raise ValueError("not a class")
    if not _of_the_authors(of):
        raise RefusedError(of)
    return Inert(of)


def give_state(made: Any, state: Any) -> None:
    """Give an object the state that a pickle has for it.

    Raises:
        RefusedError: the state would replace methods of Python's own, which unpickling then calls.
        ValueError: the object takes none, or not this.
    """
    if isinstance(made, Inert) and made.attributes is None:
        for key in state if isinstance(state, dict) else ():
            if isinstance(key, str) and key.startswith("__"):
                raise RefusedError(f"{made.of}.{key}")
        made.attributes = state
    elif isinstance(made, StoredArray) and isinstance(state[2], np.dtype):
        _version, made.shape, made.dtype, made.column_major, made.raw = state
    elif isinstance(made, np.dtype) and state[1] in ("<", "|", "="):
        pass  # it says in more words what `_dtype` was told
    elif isinstance(made, OrderedDict):
        pass  # state dicts have an attribute with the versions of their modules
    else:
        raise ValueError(f"no state for {type(made).__name__}")


def storage(reference: Any) -> Storage:
    """What torch writes in place of a tensor's numbers: ("storage", type, key, device, how many[, None])."""
    kind, type_, key, _device, _count, *view = reference
    if not (kind == "storage" and isinstance(type_, Name) and isinstance(key, str) and view in ([], [None])):
        raise ValueError("not a storage")
    return Storage(key, STORAGES[type_])


def _of_the_authors(name: Name) -> bool:
    """Whether a name must be a class of the authors', since the libraries have no such module.

    Only names without dots inside count: `utils.os.system` is what the authors' module imported from elsewhere.
    """
    parts = name.module.split(".")
    return parts[0] not in LIBRARIES and all(part.isidentifier() for part in (*parts, name.name))


def _tensor(stored: Any, offset: Any, shape: Any, strides: Any, _requires_grad: Any, _hooks: Any) -> StoredTensor:
    if not isinstance(stored, Storage):
        raise ValueError("not a tensor")
    return StoredTensor(stored, *_sizes((offset,)), _sizes(shape), _sizes(strides))


def _parameter(stored: Any, _requires_grad: Any, _hooks: Any) -> StoredTensor:
    if not isinstance(stored, StoredTensor):
        raise ValueError("not a parameter")
    return stored


def _sizes(numbers: Any) -> tuple[int, ...]:
    """A tensor's, which are few: a copy of many, made as often as the file says, would fill the memory."""
    few = isinstance(numbers, tuple) and len(numbers) <= DIMENSIONS
    if not few or not all(isinstance(number, int) and 0 <= number < 2**63 for number in numbers):
        raise ValueError("not the sizes of a tensor")
    return numbers


def _reconstructed(of: Any, base: Any, _state: Any) -> Inert:
    """Objects as protocols 0 and 1 make them."""
    if base != OBJECT:
        raise RefusedError("copyreg._reconstructor")
    return new_object(of)


def _encoded(text: Any, encoding: Any) -> str:
    """Bytes as protocol 2 has them, left as text: copies, made as often as the file says, would fill the memory."""
    if encoding != "latin1":
        raise RefusedError("_codecs.encode")
    return text


def _dtype(kind: str, *_flags: Any) -> np.dtype:
    if not NUMBERS.fullmatch(kind):
        raise ValueError("not a dtype of numbers")
    return np.dtype(kind)


def _array(_type: Any, _shape: Any, _kind: Any) -> StoredArray:
    return StoredArray((0,), np.dtype("u1"), column_major=False, raw=b"")  # until it is given its state


def _scalar(dtype: np.dtype, raw: bytes | str) -> Any:
    return StoredArray((1,), dtype, column_major=False, raw=raw).values().item()


OBJECT = Name("builtins", "object")
STORAGES = {
    Name("torch", f"{kind}Storage"): dtype
    for kind, dtype in {
        "Float": torch.float32,
        "Double": torch.float64,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}
VALUES = {OBJECT, Name("builtins", "dict"), Name("builtins", "list"), Name("numpy", "ndarray"), *STORAGES}
CALLS: dict[Name, Callable[..., Any]] = {
    Name("collections", "OrderedDict"): lambda: OrderedDict(),
    Name("collections", "defaultdict"): lambda _factory=None: {},
    Name("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Name("torch._utils", "_rebuild_parameter"): _parameter,
    Name("torch", "Size"): _sizes,
    Name("copyreg", "_reconstructor"): _reconstructed,
    Name("builtins", "bytes"): lambda: b"",
    Name("_codecs", "encode"): _encoded,
    Name("numpy", "dtype"): _dtype,
    Name("numpy._core.multiarray", "_reconstruct"): _array,
    Name("numpy._core.multiarray", "scalar"): _scalar,
}
