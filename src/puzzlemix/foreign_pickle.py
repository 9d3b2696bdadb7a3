"""Read a pickle of unknown origin as data: nothing that it names is imported, nothing that it asks for is called.

A pickle is a program for a small stack machine, some of whose instructions import and call things. Telling Python's
unpickler which names it may find (`find_class`) leaves it those instructions: it still calls what it found, with the
file's arguments, and sets its attributes. torch.load(weights_only=True) wants every class named beforehand, makes real
objects of it, and reads protocol 2 only. So this is that machine once more, without those instructions:
`pickletools.genops` of the standard library takes the program apart, and each instruction is carried out on plain data.
Nothing here depends on the version of torch, or is private to it. What names may stand for is in `foreign_objects.py`.
"""

from __future__ import annotations

import pickletools
from collections import OrderedDict
from typing import IO, Any, NamedTuple

from puzzlemix.foreign_objects import RefusedError, Storage, called, give_state, named, new_object, storage

INTEGERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4")
TEXTS = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
IN_PLACE = {*INTEGERS, *TEXTS, "FLOAT", "BINFLOAT", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}  # carry their value
FIXED = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
KEYS = (str, int, float, bytes, type(None))  # of dicts; the hash of nested tuples may take for ever


class Pickled(NamedTuple):
    """What a pickle holds, and the storages that its tensors are cut from, by key."""

    content: Any
    storages: dict[str, Storage]


def read_pickle(stream: IO[bytes]) -> Pickled:
    """Read one pickle, up to its end; the stream may go on behind it.

    Returns:
        Its content: dicts, lists, tuples, texts, numbers, and the classes of `foreign_objects.py`.

    Raises:
        RefusedError: it would run something, whose name is the message.
        Exception: of any kind, where the pickle is damaged or is none.
    """
    machine = _Machine()
    for instruction, argument, _ in pickletools.genops(stream):
        machine.do(instruction.name, argument)
    (content,) = machine.stack
    return Pickled(content, machine.storages)


class _Machine:
    """The stack machine, between two instructions.

    Attributes:
        stack: of values since the last mark.
        below: the stacks under the marks.
        memo: values to come back to.
        storages: met so far.
    """

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def do(self, instruction: str, argument: Any) -> None:
        """Carry out one instruction."""
        if instruction in IN_PLACE:
            self._push(argument)
        elif instruction in FIXED:
            self._push(FIXED[instruction])
        elif not (self._arrange(instruction, argument) or self._fill(instruction) or self._make(instruction, argument)):
            raise ValueError(f"instruction {instruction}")

    def _arrange(self, instruction: str, argument: Any) -> bool:
        """Instructions that move what is there."""
        match instruction:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                self.below.append(self.stack)
                self.stack = []
            case "POP":
                self.stack.pop()
            case "POP_MARK":
                self._since_mark()
            case "DUP":
                self._push(self.stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                self._push(self.memo[argument])
            case _:
                return False
        return True

    def _fill(self, instruction: str) -> bool:
        """Instructions that make lists, tuples and dicts."""
        match instruction:
            case "EMPTY_LIST":
                self._push([])
            case "EMPTY_DICT":
                self._push({})
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._push(tuple(self._last(int(instruction[-1]))))
            case "TUPLE":
                self._push(tuple(self._since_mark()))
            case "LIST":
                self._push(self._since_mark())
            case "DICT":
                self._push(_with_items({}, self._since_mark()))
            case "APPEND":
                _with_values(self.stack[-2], self._last(1))
            case "APPENDS":
                values = self._since_mark()
                _with_values(self.stack[-1], values)
            case "SETITEM":
                _with_items(self.stack[-3], self._last(2))
            case "SETITEMS":
                values = self._since_mark()
                _with_items(self.stack[-1], values)
            case _:
                return False
        return True

    def _make(self, instruction: str, argument: Any) -> bool:
        """Instructions that import, call, or set attributes, for an unpickler that obeys."""
        match instruction:
            case "GLOBAL":
                self._push(named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                self._push(named(*self._last(2)))
            case "REDUCE":
                self._push(called(*self._last(2)))
            case "NEWOBJ":
                self._push(new_object(self._last(2)[0]))
            case "NEWOBJ_EX":
                self._push(new_object(self._last(3)[0]))
            case "INST":
                self._push(called(named(*argument.split(" ", 1)), tuple(self._since_mark())))
            case "OBJ":
                function, *arguments = self._since_mark()
                self._push(called(function, tuple(arguments)))
            case "BUILD":
                give_state(self.stack[-2], self._last(1)[0])
            case "BINPERSID":
                found = storage(self.stack.pop())
                self.storages[found.key] = found
                self._push(found)
            case "EXT1" | "EXT2" | "EXT4":
                raise RefusedError(f"number {argument} of copyreg's extensions")
            case _:
                return False
        return True

    def _push(self, value: Any) -> None:
        self.stack.append(value)  # to the stack that is there now: a mark may have gone on the way to the value

    def _since_mark(self) -> list[Any]:
        values, self.stack = self.stack, self.below.pop()
        return values

    def _last(self, count: int) -> list[Any]:
        values = self.stack[-count:]
        if len(values) < count:
            raise ValueError("too few values")
        del self.stack[-count:]
        return values


def _with_values(target: Any, values: list[Any]) -> None:
    if type(target) is not list:
        raise ValueError(f"no values in {type(target).__name__}")
    target.extend(values)


def _with_items(target: Any, flat: list[Any]) -> Any:
    """A dict with what a list has as key, value, key, value."""
    if type(target) not in (dict, OrderedDict) or not all(isinstance(key, KEYS) for key in flat[::2]):
        raise ValueError(f"no items in {type(target).__name__}")
    target.update(zip(flat[::2], flat[1::2], strict=True))
    return target
