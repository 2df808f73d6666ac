"""Sources by name: `make_source(type="digits", split="train")`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from diffjax.choices import build, pick
from diffjax.data.arrays import ArraySource
from diffjax.data.builders import emoji as emoji_builder
from diffjax.data.builders.shapes import SIDES, folder_name
from diffjax.data.emoji_words import EMOJI_WORDS
from diffjax.data.factor_label import FactorLabelSource
from diffjax.data.factors import FIELDS, WORDS
from diffjax.data.folder import FolderSource
from diffjax.data.prepared import PreparedSource, embedded
from diffjax.data.schema import Source
from diffjax.ranges import Pixels


def digits(split: str = "train", data_dir: str | os.PathLike[str] | None = None) -> Source:
    """scikit-learn's handwritten digits, 8 x 8 grey, 1,500 `train` and 297 `test`."""
    return embedded("digits", split, data_dir)


def emoji(
    split: str = "train",
    data_dir: str | os.PathLike[str] | None = None,
    size: Pixels = 32,
    label: str = "concept",
) -> Source:
    """Emoji of `size` x `size` RGB, 32 or 64, from `NotoColorEmoji.ttf`: about 3,500 `train`, 90
    `test`, and 140 `compositions` of gender, skin tone and role that the others never show.

    A record has all its captions and its factors (`emoji_words.EMOJI_WORDS`). `label` is the
    concept ("firefighter", "penguin"; about 1,700), or one of the factors: then only records that
    have it are there.

    Raises:
      ValueError: another size, an unknown factor, or no font to prepare the set from.
    """
    sides = emoji_builder.SIDES
    if size not in sides:
        raise ValueError(f"emoji: size must be {' or '.join(map(str, sides))}, not {size}")
    pick("label of emoji", label, ("concept", *EMOJI_WORDS))
    fields = ("label", "caption", *EMOJI_WORDS)
    source = embedded(emoji_builder.folder_name(size), split, data_dir, fields=fields)
    if label == "concept":
        return source
    return FactorLabelSource(source, label, EMOJI_WORDS[label])


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
    "emoji": emoji,
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
    if name.startswith("emoji"):
        return dict(EMOJI_WORDS)
    return dict(WORDS) if name.startswith("shapes") else {}
