"""Build a named choice from a section of a config: a typo is an error that names the nearest."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
# Parameters that linen gives every module, which no config may set: `hidden` where it makes one.
LINEN = ("parent", "name")


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


def _hints(maker: Callable[..., Any]) -> dict[str, Any]:
    """Parameter -> annotation, as far as they can be told."""
    while isinstance(maker, functools.partial):
        maker = maker.func
    try:
        return get_type_hints(maker.__init__ if inspect.isclass(maker) else maker)
    except (NameError, TypeError):
        return {}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of a config can be meant by an annotation; True where it cannot be told."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if hint in (int, float) and isinstance(value, bool):
        return False
    if hint is float:
        return isinstance(value, int | float)
    if hint in (int, bool, str, NoneType):
        return isinstance(value, hint)
    if hint is tuple or origin is tuple:
        return isinstance(value, tuple)
    return True


def construct(
    maker: Callable[..., T], what: str, section: Mapping[str, Any], hidden: Collection[str] = ()
) -> T:
    """`maker` called with `section`, lists read back as tuples.

    `hidden` parameters of the maker are no keys of a section.

    Raises:
      ValueError: a key that `maker` lacks (the nearest is named), or one that it needs, or a
        number, word or flag where another kind is asked for.
    """
    section = {k: tuple(v) if isinstance(v, list) else v for k, v in section.items()}
    signature = inspect.signature(maker).parameters
    parameters = {name: p for name, p in signature.items() if name not in hidden}
    for key in section:
        if key not in parameters:
            raise unknown(f"key of {what}:", key, parameters)
    missing = [k for k, p in parameters.items() if p.default is p.empty and k not in section]
    if missing:
        raise ValueError(f"{what} needs {', '.join(map(repr, missing))}")
    for key, hint in _hints(maker).items():
        if key in section and not _fits(section[key], hint):
            if get_origin(hint) is Literal:
                options = " or ".join(map(repr, get_args(hint)))
                raise ValueError(f"{what}: {key} must be {options}, not {section[key]!r}")
            kind = getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else hint
            raise ValueError(f"{what}: {key}={section[key]!r} is no {kind}")
    return maker(**section)


def build(
    table: Mapping[str, Callable[..., T]],
    what: str,
    section: Mapping[str, Any],
    hidden: Collection[str] = (),
) -> T:
    """`table[section["type"]]` constructed from the rest of `section`; `hidden` as in `construct`.

    Raises:
      ValueError: a type that `table` lacks, a key that the builder lacks, or one that it needs.
    """
    section = dict(section)
    if "type" not in section:
        raise ValueError(f"{what} section {section} has no 'type' (options: {', '.join(table)})")
    name = section.pop("type")
    if name not in table:
        raise unknown(what, name, table)
    return construct(table[name], f"{what} {name!r}", section, hidden)
