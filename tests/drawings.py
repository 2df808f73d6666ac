"""Emoji as a source, without a font: black pictures with the captions and factors of the real."""

import numpy as np

from diffjax.choices import pick
from diffjax.data.arrays import ArraySource
from diffjax.data.builders.emoji import factors, split_of
from diffjax.data.emoji_captions import captions
from diffjax.data.emoji_words import EMOJI_WORDS, read_emoji, unicode_emoji
from diffjax.data.factor_label import FactorLabelSource
from diffjax.data.schema import Source


def drawings(split: str = "train", count: int = 64, label: str = "concept") -> Source:
    """As many records of people in a split of `emoji` as there are, `count` at most."""
    pick("label of emoji", label, ("concept", *EMOJI_WORDS))
    everyone = read_emoji(unicode_emoji())
    emoji = [e for e in everyone if split_of(e) == split and e.role >= 0][:count]
    concepts = sorted({e.concept for e in everyone})
    fields = [factors([e]) for e in emoji]
    source = ArraySource(
        np.zeros((len(emoji), 32, 32, 3), np.uint8),
        [concepts.index(e.concept) for e in emoji],
        [captions(e) for e in emoji],
        {name: np.array([f[name] for f in fields], np.int32) for name in EMOJI_WORDS},
        name="emoji",
        split=split,
        class_names=concepts,
    )
    return source if label == "concept" else FactorLabelSource(source, label, EMOJI_WORDS[label])
