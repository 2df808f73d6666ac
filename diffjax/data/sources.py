"""Sources by name: `make_source(type="digits", split="train")`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from diffjax.choices import build
from diffjax.data.arrays import ArraySource
from diffjax.data.folder import FolderSource
from diffjax.data.prepared import PreparedSource, embedded
from diffjax.data.schema import Source


def digits(split: str = "train", data_dir: str | os.PathLike[str] | None = None) -> Source:
    """scikit-learn's handwritten digits, 8 x 8 grey, 1,500 `train` and 297 `test`."""
    return embedded("digits", split, data_dir)


SOURCES: dict[str, Callable[..., Source]] = {
    "array": ArraySource,
    "digits": digits,
    "folder": FolderSource,
    "tfds": PreparedSource,
}


def make_source(type: str, **options: Any) -> Source:
    """The source called `type` in SOURCES, built with `options`.

    Raises:
      ValueError: an unknown type or option (the nearest is named), or data that are not as said.
    """
    return build(SOURCES, "source", {"type": type, **options})
