"""Build a named choice from a section of a config: a typo is an error that names the nearest, a
number outside its declared range one that names the range."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import numbers
import os
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from diffjax.ranges import outside

T = TypeVar("T")
# Parameters that linen gives every module, which no config may set: `hidden` where it makes one.
LINEN = ("parent", "name")
_MAPPINGS = (Mapping, MutableMapping, dict)
_SEQUENCES = (Sequence, list)
# Types of values; of others, which no config can hold, nothing is asked.
_KINDS = (bool, int, float, str, NoneType, Path)


def unknown(what: str, name: object, options: Iterable[str]) -> ValueError:
    """The error for a `name` that is none of `options`."""
    options = sorted(options)
    near = difflib.get_close_matches(str(name), options, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ValueError(f"unknown {what} {name!r}{hint} (options: {', '.join(options)})")


def pick(what: str, name: object, options: Iterable[str]) -> str:
    """`name` if it is one of `options`.

    Raises:
      ValueError: it is none of them; the nearest is named.
    """
    options = list(options)
    if not isinstance(name, str) or name not in options:
        raise unknown(what, name, options)
    return name


def hints_of(maker: Callable[..., Any]) -> dict[str, Any]:
    """Parameter -> annotation with its range, as far as they can be told."""
    while isinstance(maker, functools.partial):
        maker = maker.func
    made: Any = maker
    if inspect.isclass(maker) and not dataclasses.is_dataclass(maker):
        made = maker.__init__
    try:
        return get_type_hints(made, include_extras=True)
    except NameError:  # A name that is imported for the type checker alone.
        known = getattr(made, "__globals__", {})
        return {k: _resolved(v, known) for k, v in inspect.get_annotations(made).items()}


def _resolved(hint: Any, known: Mapping[str, Any]) -> Any:
    try:
        return eval(hint, dict(known)) if isinstance(hint, str) else hint
    except (NameError, TypeError):
        return Any


def _named(hint: Any) -> str:
    """An annotation without its ranges, for people."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _named(inner[0])
    if origin in (Union, UnionType):
        return " or ".join(map(_named, inner))
    if hint is NoneType:
        return "None"
    return getattr(hint, "__name__", str(hint)) if origin is None else str(origin.__name__)


def said(value: Any) -> str:
    """A value of a config in an error: cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python spells no integer of more than 4,300 digits.
        text = f"a number of {value.bit_length()} bits"
    return text if len(text) <= 80 else f"{text[:77]}..."


class _Complaint(NamedTuple):
    """A reason why a value does not fit its annotation; `range` where its kind is right."""

    text: str
    range: bool = False


def _complaint(name: str, value: Any, hint: Any) -> _Complaint | None:
    """The complaint about `name=value` of a config; None where nothing is wrong, or none can
    tell."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        wrong = _complaint(name, value, inner[0])
        if wrong is not None:
            return wrong
        must = outside(value, inner[1:])
        return must and _Complaint(f"{name}={said(value)} must be {must}", True)  # type: ignore
    if origin in (Union, UnionType):
        # An array, or whatever else nobody can tell, is no way around the range of a number.
        number = isinstance(value, numbers.Real)
        members = [
            one for one in inner if not (number and one not in _KINDS and inspect.isclass(one))
        ]
        wrongs = [_complaint(name, value, one) for one in members]
        if None in wrongs or not members:
            return None
        near = [wrong for wrong in wrongs if wrong is not None and wrong.range]
        return near[0] if near else _Complaint(f"{name}={said(value)} is no {_named(hint)}")
    if origin is Literal:
        options = " or ".join(map(repr, inner))
        known = any(value is one or (type(value) is type(one) and value == one) for one in inner)
        return None if known else _Complaint(f"{name} must be {options}, not {said(value)}", True)
    if origin in (tuple, *_SEQUENCES):
        return _in_sequence(name, value, hint)
    if origin in _MAPPINGS or hint in _MAPPINGS:
        if not _is_section(value):
            return _Complaint(f"{name} is a section, dict(...), not {said(value)}", True)
        kinds = inner or (Any, Any)
        found = (_complaint(f"{name}.{k}", v, kinds[1]) for k, v in value.items())
        return next(filter(None, found), None)
    return None if _fits(value, hint) else _Complaint(f"{name}={said(value)} is no {_named(hint)}")


def _in_sequence(name: str, value: Any, hint: Any) -> _Complaint | None:
    inner = get_args(hint)
    if not isinstance(value, tuple | list):
        return _Complaint(f"{name}={said(value)} is no {_named(hint)}: write ({said(value)},)")
    if get_origin(hint) is tuple and inner and inner[-1] is not Ellipsis:
        if len(value) != len(inner):
            return _Complaint(f"{name}={said(value)} must have {len(inner)} entries", True)
        kinds = inner
    else:
        kinds = (inner[0] if inner else Any,) * len(value)
    found = (
        _complaint(f"{name}[{i}]", one, kind)
        for i, (one, kind) in enumerate(zip(value, kinds, strict=True))
    )
    return next(filter(None, found), None)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of a config can be meant by a plain type; True where it cannot be told."""
    if hint in (int, float):
        kind = numbers.Integral if hint is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool)
    if hint is tuple:
        return isinstance(value, tuple | list)
    if get_origin(hint) is os.PathLike:
        return isinstance(value, os.PathLike)
    return hint not in _KINDS or isinstance(value, hint)


def _tuples(value: Any) -> Any:
    """A config's value as the one who wrote the section meant it: JSON has no tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _is_section(value: Any) -> bool:
    return isinstance(value, Mapping) or hasattr(value, "keys")  # a ConfigDict is no Mapping


def as_section(what: str, section: Any) -> Mapping[str, Any]:
    """`section` if it is one.

    Raises:
      ValueError: it is a list, a number, a word, None: no mapping of words to values.
    """
    if not _is_section(section):
        raise ValueError(f"{what} is a section, dict(...), not {said(section)}")
    for key in section:
        if not isinstance(key, str):
            raise ValueError(f"{what} has the key {said(key)}: keys of a section are words")
    return section


def check(
    maker: Callable[..., Any],
    what: str,
    section: Mapping[str, Any],
    hidden: Collection[str] = (),
    kind: str | None = None,
    whole: bool = True,
) -> dict[str, Any]:
    """`section` as keyword arguments of `maker`, lists read back as tuples.

    Args:
      maker: a class or function; its annotations say kinds and ranges, see `diffjax.ranges`.
      what: where the section stands in the config, for errors.
      section: parameter -> value.
      hidden: parameters of the maker that are no keys of a section.
      kind: its `type`.
      whole: whether parameters without a default must be there.

    Raises:
      ValueError: a key that `maker` lacks (the nearest is named), or one that it needs, a number,
        word or flag where another kind is asked for, or a number outside its range.
    """
    section = {k: _tuples(v) for k, v in as_section(what, section).items()}
    place = what if kind is None else f"{what} {kind!r}"
    signature = inspect.signature(maker).parameters
    parameters = {name: p for name, p in signature.items() if name not in hidden}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in section:
        if key not in parameters and not open_ended:
            raise unknown(f"key of {place}:", key, parameters)
    missing = [k for k, p in parameters.items() if p.default is p.empty and k not in section]
    if whole and missing and not open_ended:
        raise ValueError(f"{place} needs {', '.join(map(repr, missing))}")
    check_values(what, section, hints_of(maker), place)
    return section


def check_values(
    what: str, section: Mapping[str, Any], hints: Mapping[str, Any], place: str = ""
) -> None:
    """Raises ValueError where a value of `section` is not what its hint asks for; `what` as in
    `check`, `place` with more words."""
    for key, value in section.items():
        wrong = _complaint(key, value, hints.get(key, Any))
        if wrong is not None:
            before = f"{what}." if wrong.range else f"{place or what}: "
            raise ValueError(before + wrong.text)


def construct(
    maker: Callable[..., T],
    what: str,
    section: Mapping[str, Any],
    hidden: Collection[str] = (),
    kind: str | None = None,
) -> T:
    """`maker` called with a checked `section`; arguments and errors as in `check`."""
    return maker(**check(maker, what, section, hidden, kind))


def chosen(
    table: Mapping[str, Callable[..., T]], what: str, section: Mapping[str, Any]
) -> tuple[str, Callable[..., T], dict[str, Any]]:
    """The `type` of a section, what `table` builds it by, and its other keys.

    Raises:
      ValueError: no section, or a type that `table` lacks.
    """
    rest = dict(as_section(what, section))
    if "type" not in rest:
        raise ValueError(f"{what} section {said(rest)} has no 'type' (options: {', '.join(table)})")
    name = pick(what, rest.pop("type"), table)
    return name, table[name], rest


def build(
    table: Mapping[str, Callable[..., T]],
    what: str,
    section: Mapping[str, Any],
    hidden: Collection[str] = (),
) -> T:
    """`table[section["type"]]` constructed from the rest of `section`; `hidden` as in `check`.

    Raises:
      ValueError: a type that `table` lacks, a key that the builder lacks, or one that it needs.
    """
    kind, maker, rest = chosen(table, what, section)
    return construct(maker, what, rest, hidden, kind)
