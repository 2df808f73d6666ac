"""Networks built from sections of a config: a typo is an error that names the nearest."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flax import linen as nn


def pick(what: str, name: Any, options: Iterable[str]) -> str:
    """`name` if it is one of `options`; else a ValueError that names the nearest and lists all."""
    options = list(options)
    if name in options:
        return name
    near = difflib.get_close_matches(str(name), options, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {what} {name!r}{hint} Have {options}")


def construct(what: str, maker: Callable[..., nn.Module], section: Mapping[str, Any]) -> nn.Module:
    """`maker`, a network or a function that makes one, called with `section`.

    Lists become tuples, so that a config may hold either. Raises ValueError on an unknown key
    (naming the nearest valid one), and on a missing key.
    """
    known = {
        name: p
        for name, p in inspect.signature(maker).parameters.items()
        if name not in ("parent", "name")  # linen's own
    }
    for key in section:
        pick(f"key of {what}:", key, known)
    missing = [n for n, p in known.items() if p.default is p.empty and n not in section]
    if missing:
        raise ValueError(f"{what} lacks {missing}; give them in its config section")
    return maker(**{k: tuple(v) if isinstance(v, list) else v for k, v in section.items()})
