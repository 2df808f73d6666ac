"""Pickles of torch's read as data: what a pickle says, without ever calling what it names.

A pickle is a program for a machine with a stack. Ours has the same instructions, but a name stays a
name, what is called is given by our reader (anything else ends the reading), and the work and the
memory are linear in the length of the program: no value is copied that it can name again, and keys
of dicts are plain, for nested or crafted ones can take for ever to hash.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any, Protocol

from diffjax.bounded import MB

# Programs of Stable Diffusion's training checkpoints take half a megabyte.
LONGEST = 4 * MB
# Of 20,000 tensors; each takes some 40.
_STEPS_MOST = 1_000_000
# Of a number (the number that old files begin with has 79), and of numbers that are keys.
_BITS, _KEYS = 128, 2**32


class Name:
    """A global that a pickle names, `module.attribute`."""

    def __init__(self, full: str):
        self.full = full


class Instance:
    """An object of a class that a pickle names: its attributes alone."""

    def __init__(self, of: str):
        self.of = of
        self.attributes: Mapping[Any, Any] = {}


class Meaning(Protocol):
    """Meanings of names and persistent ids; each may refuse by an error of its own."""

    def check(self, full: str) -> None:
        """Refuses a name that is none of those known."""
        ...

    def call(self, full: str, arguments: tuple[Any, ...]) -> Any:
        """The result of the name, called with `arguments`."""
        ...

    def persistent(self, pid: Any) -> Any:
        """The object outside the pickle under an id."""
        ...


def run_pickle(opened: IO[bytes], meaning: Meaning) -> Any:
    """The content of the pickle that begins where `opened` stands; it is read to its end and no
    further.

    Lists, dicts and tuples are Python's, sets are lists; names are `Name`s, what is called is what
    `meaning` gives.

    Raises:
      pickle.UnpicklingError: the program is damaged, longer than `LONGEST`, or does what none of
        torch's does.
    """
    machine = _Machine(meaning)
    try:
        program = pickletools.genops(_Bounded(opened))  # type: ignore[arg-type]
        for count, (opcode, argument, _) in enumerate(program):
            if count > _STEPS_MOST:
                raise pickle.UnpicklingError(f"its pickle has more than {_STEPS_MOST} instructions")
            step = _STEPS.get(opcode.name)
            if step is None:
                raise pickle.UnpicklingError(f"it holds the instruction {opcode.name}")
            step(machine, argument)
        return machine.stack.pop()
    except (LookupError, TypeError, AttributeError, ArithmeticError, ValueError) as error:
        raise pickle.UnpicklingError(f"its pickle is damaged ({str(error)[:200]})") from error


class _Bounded:
    """A file as `pickletools` reads it: no more than a program may take, whatever length an
    instruction claims."""

    def __init__(self, opened: IO[bytes]):
        self._opened, self._left = opened, LONGEST

    def _count(self, found: bytes) -> bytes:
        self._left -= len(found)
        return found

    def read(self, size: int) -> bytes:
        self._check(size)
        return self._count(self._opened.read(size))

    def readline(self) -> bytes:
        found = self._opened.readline(self._left + 1)
        self._check(len(found))
        return self._count(found)

    def _check(self, size: int) -> None:
        if size > self._left:
            raise pickle.UnpicklingError(f"its pickle is longer than {LONGEST // MB} MB")


class _Machine:
    """The stack, what lies below its marks, and the memo."""

    def __init__(self, meaning: Meaning):
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.meaning = meaning

    def mark(self, _: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        """The objects pushed since the last mark."""
        found, self.stack = self.stack, self.below.pop()
        return found

    def drop_mark(self, _: Any) -> None:
        self.pop_mark()

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def push(self, argument: Any) -> None:
        if isinstance(argument, int) and argument.bit_length() > _BITS:
            raise ValueError("a number of too many digits")
        self.stack.append(argument)

    def tuple_of(self, count: int) -> None:
        found = tuple(self.stack[-count:])
        if len(found) < count:
            raise IndexError("a tuple of more than there is")
        self.stack[-count:] = [found]

    def append(self, _: Any) -> None:
        value = self.stack.pop()
        self.stack[-1].append(value)

    def appends(self, _: Any) -> None:
        values = self.pop_mark()
        self.stack[-1].extend(values)

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        fill(self.stack[-1], [key, value])

    def set_items(self, _: Any) -> None:
        values = self.pop_mark()
        fill(self.stack[-1], values)

    def new_dict(self, _: Any) -> None:
        found: dict[Any, Any] = {}
        fill(found, self.pop_mark())
        self.stack.append(found)

    def remember(self, at: Any) -> None:
        at = len(self.memo) if at is None else at
        if not 0 <= at < _KEYS:
            raise ValueError("a place of the memo that is none")
        self.memo[at] = self.stack[-1]

    def recall(self, at: Any) -> None:
        self.stack.append(self.memo[at])

    def name(self, argument: str) -> None:
        full = argument.replace(" ", ".", 1)
        self.meaning.check(full)
        self.stack.append(Name(full))

    def name_of_two(self, _: Any) -> None:
        attribute, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(module, str) and isinstance(attribute, str)):
            raise TypeError("a name that is no text")
        self.name(f"{module} {attribute}")

    def reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise TypeError("it calls what is no function")
        self.stack.append(self.meaning.call(function.full, arguments))

    def build(self, _: Any) -> None:
        """Attributes are those of our `Instance`s alone: nothing else is ever altered."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], Instance) and isinstance(state, Mapping):
            self.stack[-1].attributes = state

    def persist(self, _: Any) -> None:
        self.stack.append(self.meaning.persistent(self.stack.pop()))


def fill(into: Any, values: list[Any]) -> None:
    """Keys and values in turn into a dict.

    Raises:
      TypeError: no dict, a key that is not plain, or one without a value.
    """
    if not isinstance(into, dict) or len(values) % 2:
        raise TypeError("items of what is no dict")
    for key, value in zip(values[::2], values[1::2], strict=True):
        if isinstance(key, int):
            plain = -_KEYS < key < _KEYS
        elif isinstance(key, tuple):
            plain = len(key) < 9 and all(isinstance(k, str) for k in key)
        else:
            plain = key is None or isinstance(key, str | bytes | Name)
        if not plain:
            raise TypeError(f"{type(key).__name__} as the key of a dict")
        into[key] = value


def _nothing(*_: Any) -> None:
    """An instruction that needs no doing."""


def _push(make: Callable[[], Any]) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(make())


_VALUES = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
           "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
           "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8")  # fmt: skip
# Instruction -> what it does to the machine, given its argument.
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), _nothing),
    **dict.fromkeys(_VALUES, _Machine.push),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.recall),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_SET"), _push(list)),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), _Machine.appends),
    **dict.fromkeys(("LIST", "FROZENSET"), lambda m, _: m.push(m.pop_mark())),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Machine.reduce),
    "NONE": _push(lambda: None),
    "NEWTRUE": _push(lambda: True),
    "NEWFALSE": _push(lambda: False),
    "EMPTY_TUPLE": _push(tuple),
    "EMPTY_DICT": _push(dict),
    "TUPLE": lambda m, _: m.push(tuple(m.pop_mark())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.drop_mark,
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "APPEND": _Machine.append,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "DICT": _Machine.new_dict,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name_of_two,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persist,
}
