"""Fields of a released config: kinds of values that they may hold, and the check of a whole one.

The greatest numbers lie far beyond any network that was released; they keep an absurd one from
being built before it is found to be none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from diffjax.bounded import shortened


class Kind(NamedTuple):
    """A kind of values: whether one is of it, and what errors call it."""

    fits: Callable[[Any], bool]
    said: str


def whole(least: int, most: int) -> Kind:
    """A whole number from `least` to `most`."""

    def fits(x: Any) -> bool:
        return isinstance(x, int) and not isinstance(x, bool) and least <= x <= most

    return Kind(fits, f"a whole number from {least:,} to {most:,}")


def real(least: float, most: float) -> Kind:
    """A finite number from `least` to `most`."""

    def fits(x: Any) -> bool:
        # A whole number of any length compares with a float, without becoming one.
        return isinstance(x, int | float) and not isinstance(x, bool) and least <= x <= most

    return Kind(fits, f"a number from {least:g} to {most:g}")


def several(kind: Kind, least: int, most: int) -> Kind:
    """A list of `least` to `most` values of a kind."""

    def fits(x: Any) -> bool:
        return isinstance(x, list) and least <= len(x) <= most and all(map(kind.fits, x))

    count = str(least) if least == most else f"{least} to {most}"
    return Kind(fits, f"a list of {count}, each {kind.said}")


def either(*kinds: Kind) -> Kind:
    """A value of any of several kinds."""
    return Kind(lambda x: any(k.fits(x) for k in kinds), ", or ".join(k.said for k in kinds))


def one_of(*words: str) -> Kind:
    """One of several words."""
    return Kind(lambda x: isinstance(x, str) and x in words, f"one of {', '.join(words)}")


NULL = Kind(lambda x: x is None, "null")
FLAG = Kind(lambda x: isinstance(x, bool), "true or false")
WORD = Kind(lambda x: isinstance(x, str) and len(x) <= 200, "a short text")
MAP = Kind(lambda x: isinstance(x, dict), "a map")
WIDTH = whole(1, 65_536)
COUNT = whole(1, 10_000_000)
DEPTH = whole(1, 256)
LEVELS = 12
SIDE = whole(1, 8_192)
# Of images: one number for squares, or height and width.
SIZE = either(SIDE, several(SIDE, 2, 2))
EPSILON = real(0, 1)


def optional(kind: Kind) -> Kind:
    """A value of a kind, or null, which says as much as a missing key."""
    return either(kind, NULL)


def per_level(kind: Kind) -> Kind:
    """A value for all levels, or one for each."""
    return either(kind, several(kind, 1, LEVELS))


def check_fields(config: Mapping[str, Any], file: object, fields: Mapping[str, Kind]) -> None:
    """Refuses a config of whose `fields` one holds another kind of value.

    Raises:
      ValueError: the first, with `file` and what it must be.
    """
    for key, kind in fields.items():
        if key in config and not kind.fits(config[key]):
            raise ValueError(f"{file}: {key}={shortened(config[key])} must be {kind.said}")


def sub_map(config: Mapping[str, Any], key: str, file: Path) -> dict[str, Any]:
    """The map that a config holds under `key`; an empty one where it holds none.

    Raises:
      ValueError: it holds something else.
    """
    check_fields(config, file, {key: optional(MAP)})
    return config.get(key) or {}
