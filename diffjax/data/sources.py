"""Sources by name: `make_source(type="digits", split="train")`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from diffjax.choices import build
from diffjax.data.arrays import ArraySource
from diffjax.data.builders.shapes import SIDES, folder_name
from diffjax.data.factors import FIELDS, WORDS
from diffjax.data.folder import FolderSource
from diffjax.data.prepared import PreparedSource, embedded
from diffjax.data.schema import Source
from diffjax.ranges import Pixels


def digits(split: str = "train", data_dir: str | os.PathLike[str] | None = None) -> Source:
    """scikit-learn's handwritten digits, 8 x 8 grey, 1,500 `train` and 297 `test`."""
    return embedded("digits", split, data_dir)


def shapes(
    split: str = "train", data_dir: str | os.PathLike[str] | None = None, size: Pixels = 32
) -> Source:
    """Generated scenes of `size` x `size` RGB, 32 or 64: 12,000 `train`, 1,500 `test`, and 1,500
    `compositions` of pairs of shape and colour that the others never show.

    A record has all its captions, and its true factors (`factors.FIELDS`); `label` is the first
    object's pair.

    Raises:
      ValueError: another size.
    """
    if size not in SIDES:
        raise ValueError(f"shapes: size must be {' or '.join(map(str, SIDES))}, not {size}")
    return embedded(folder_name(size), split, data_dir, fields=("label", "caption", *FIELDS))


SOURCES: dict[str, Callable[..., Source]] = {
    "array": ArraySource,
    "digits": digits,
    "folder": FolderSource,
    "shapes": shapes,
    "tfds": PreparedSource,
}


def make_source(type: str, **options: Any) -> Source:
    """The source called `type` in SOURCES, built with `options`.

    Raises:
      ValueError: an unknown type or option (the nearest is named), or data that are not as said.
    """
    return build(SOURCES, "source", {"type": type, **options})


def factor_words(name: str) -> dict[str, tuple[str, ...]]:
    """The words of each factor that the records of the set `name` hold the truth of; {} for data
    without such."""
    return dict(WORDS) if name.startswith("shapes") else {}
