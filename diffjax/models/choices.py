"""Errors that name the nearest valid choice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def pick(what: str, name: str, options: Iterable[str]) -> str:
    """`name` if it is one of `options`; else a ValueError that names the nearest and lists all."""
    options = list(options)
    if name in options:
        return name
    near = difflib.get_close_matches(str(name), options, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {what} {name!r}{hint} Have {options}")
