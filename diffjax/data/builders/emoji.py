"""Emoji with captions and factors: about 3,700 drawings by people, of a font that the user has.

One drawing stands for one concept: there is one penguin, so a model that draws a penguin has
remembered it, and no held-out penguin would measure anything. What can be held out are combinations
of what is drawn often: gender, skin tone, and what somebody is or does. `compositions` holds all
drawings of combinations that the other splits never show (`held_out_combinations`), and it alone
measures generalisation. `test` is a twentieth of the other drawings that have a skin tone: single
ones, whose name is shown in other skins. It is there to choose by, so that `compositions` need not
be. Everything else is `train`.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from diffjax.data import emoji_words as words
from diffjax.data.arrays import digest
from diffjax.data.builders.base import RecordBuilder, image_features
from diffjax.data.emoji_captions import captions
from diffjax.data.emoji_font import WHERE_TO_GET_ONE, EmojiFont, find_font
from diffjax.data.emoji_words import EMOJI_WORDS, Emoji, read_emoji, unicode_emoji
from diffjax.data.images import png
from diffjax.data.resize import center_crop_resize

SIDES = (32, 64)
SPLITS = ("train", "test", "compositions")
_TEST_SHARE, _EVERY = 1 / 20, 3  # of drawings with a skin tone; one activity in so many


@functools.cache
def held_out_combinations() -> frozenset[tuple[int, int, int]]:
    """The (gender, skin tone, role) that training never shows, indices into EMOJI_WORDS.

    Of every job two of its eighteen pairs of gender and skin tone, which differ in both and change
    from job to job; of every third activity one gender, whatever the skin. So every gender, every
    skin tone and every role is still shown, in other combinations.
    """
    tones = len(words.SKIN_TONES)
    pairs = len(words.GENDERS) * tones
    found = set()
    for job in range(len(words.JOBS)):
        for pair in (7 * job % pairs, (7 * job + pairs // 2) % pairs):
            found.add((*divmod(pair, tones), job))
    for place, activity in enumerate(range(len(words.JOBS), len(words.ROLES), _EVERY)):
        found |= {(place % len(words.GENDERS), tone, activity) for tone in range(tones)}
    return frozenset(found)


def split_of(emoji: Emoji) -> str:
    """The split of an emoji, whatever else there is: both directions of a runner are in one."""
    if (emoji.gender, emoji.skin_tone, emoji.role) in held_out_combinations():
        return "compositions"
    if emoji.skin_tone < 0:
        return "train"
    named = f"{emoji.name}:{emoji.skin_tone}".encode()
    drawn = int.from_bytes(hashlib.sha256(named).digest()[:8], "big") / 2**64
    return "test" if drawn < _TEST_SHARE else "train"


def split_of_all(group: Sequence[Emoji]) -> str:
    """The split of emoji that share a drawing: never shown if one of them is, tested if all are."""
    splits = {split_of(emoji) for emoji in group}
    if "compositions" in splits:
        return "compositions"
    return "test" if splits == {"test"} else "train"


def factors(group: Sequence[Emoji]) -> dict[str, int]:
    """EMOJI_WORDS's fields of emoji that share a drawing: where they differ it does not say, -1."""
    values = {name: {getattr(emoji, name) for emoji in group} for name in EMOJI_WORDS}
    return {name: v.pop() if len(v) == 1 else -1 for name, v in values.items()}


def drawn_together(font: EmojiFont, emoji: Sequence[Emoji]) -> list[list[Emoji]]:
    """Those of `emoji` that the font draws, in groups of the same drawing: Norway's flag is that of
    Bouvet Island too."""
    groups: dict[bytes, list[Emoji]] = {}
    for one in emoji:
        data = font.png(one.sequence)
        if data is not None:
            groups.setdefault(data, []).append(one)
    return list(groups.values())


def render(
    font: EmojiFont, emoji: Sequence[Emoji], size: int
) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """(concepts, split -> columns of its records) of all that a font draws.

    Columns are `image [N, size, size, 3] uint8`, `label [N]` (the concept of the oldest emoji of
    the drawing), `caption` and the factors.

    Raises:
      ValueError: a font that leaves a split without drawings, or a drawing that is corrupt.
    """
    groups = drawn_together(font, emoji)
    concepts = sorted({group[0].concept for group in groups})
    number = {concept: i for i, concept in enumerate(concepts)}
    splits: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        here = [group for group in groups if split_of_all(group) == split]
        if not here:
            raise ValueError(
                f"{font.path}: draws {len(groups)} of {len(emoji)} emoji, and none of the split "
                f"{split!r}; {WHERE_TO_GET_ONE}"
            )
        fields = [factors(group) for group in here]
        splits[split] = {
            "image": np.stack([center_crop_resize(_pixels(font, g[0]), size) for g in here]),
            "label": np.array([number[group[0].concept] for group in here]),
            # The oldest comes last: the caption that says all is the one of the best known.
            "caption": [
                list(dict.fromkeys(text for one in reversed(group) for text in captions(one)))
                for group in here
            ],
            **{name: np.array([f[name] for f in fields], np.int32) for name in EMOJI_WORDS},
        }
    return concepts, splits


def _pixels(font: EmojiFont, emoji: Emoji) -> np.ndarray:
    drawn = font.pixels(emoji.sequence)
    assert drawn is not None, emoji
    return drawn


class EmojiDrawings(RecordBuilder):
    """The set, registered with TFDS as `emoji_drawings`: `emoji` at 32 pixels, `emoji64` at 64.

    Args:
      size: one of SIDES.
      font: a file; by default the first that `find_font` finds.
      data_dir, options: see `RecordBuilder`.

    Raises:
      ValueError: no font, or one that is damaged or has no colour bitmaps.
    """

    def __init__(
        self,
        *,
        size: int = 32,
        font: str | os.PathLike[str] | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        **options: Any,
    ):
        drawings = EmojiFont(find_font(font))
        concepts, splits = render(drawings, read_emoji(unicode_emoji()), size)

        def records(split: str) -> Iterator[dict[str, Any]]:
            columns = splits[split]
            for i, image in enumerate(columns["image"]):
                yield {name: c[i] for name, c in columns.items()} | {"image": png(image)}

        features = image_features((size, size, 3), tuple(concepts), caption=True)
        features |= {name: tfds.features.Tensor(shape=(), dtype=np.int32) for name in EMOJI_WORDS}
        super().__init__(
            name=folder_name(size),
            records={split: lambda split=split: records(split) for split in splits},
            fingerprints={split: digest(columns) for split, columns in splits.items()},
            features=features,
            data_dir=data_dir,
            description=f"emoji of {drawings.path.name} (SHA-256 {drawings.fingerprint}...), "
            f"{size} x {size}, with captions and factors",
            **options,
        )


def folder_name(size: int) -> str:
    """The name of the set of `size` pixels."""
    return "emoji" if size == 32 else f"emoji{size}"
