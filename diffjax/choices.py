"""Build a named choice from a section of a config: a typo is an error that names the nearest."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def unknown(what: str, name: object, options: Iterable[str]) -> ValueError:
    """The error for a `name` that is none of `options`."""
    options = sorted(options)
    near = difflib.get_close_matches(str(name), options, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ValueError(f"unknown {what} {name!r}{hint} (options: {', '.join(options)})")


def construct(maker: Callable[..., T], what: str, section: Mapping[str, Any]) -> T:
    """`maker` called with `section`, lists read back as tuples.

    Raises:
      ValueError: a key that `maker` lacks (the nearest is named), or one that it needs.
    """
    section = {k: tuple(v) if isinstance(v, list) else v for k, v in section.items()}
    parameters = inspect.signature(maker).parameters
    for key in section:
        if key not in parameters:
            raise unknown(f"key of {what}:", key, parameters)
    missing = [k for k, p in parameters.items() if p.default is p.empty and k not in section]
    if missing:
        raise ValueError(f"{what} needs {', '.join(map(repr, missing))}")
    return maker(**section)


def build(table: Mapping[str, Callable[..., T]], what: str, section: Mapping[str, Any]) -> T:
    """`table[section["type"]]` constructed from the rest of `section`.

    Raises:
      ValueError: a type that `table` lacks, a key that the builder lacks, or one that it needs.
    """
    section = dict(section)
    if "type" not in section:
        raise ValueError(f"{what} section {section} has no 'type' (options: {', '.join(table)})")
    name = section.pop("type")
    if name not in table:
        raise unknown(what, name, table)
    return construct(table[name], f"{what} {name!r}", section)
