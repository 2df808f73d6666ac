"""The transform that turns a record's captions into tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from diffjax.data.draws import Draws
from diffjax.data.schema import Columns
from diffjax.data.tokenizer import Tokenizer
from diffjax.ranges import Probability


@dataclass(frozen=True)
class Tokenize:
    """`caption` (a text or several) to `tokens [B, L] int32`; the texts end here.

    Attributes:
      tokenizer: of L ids a row.
      pick: which of several captions: "random", another at every visit, for training; "first" or
        "last".
      drop: probability of the empty caption instead, for classifier-free guidance (Ho and
        Salimans 2022).

    Raises:
      ValueError: data without captions, or a caption that the tokenizer refuses.
    """

    tokenizer: Tokenizer
    pick: Literal["random", "first", "last"] = "random"
    drop: Probability = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.drop <= 1:
            raise ValueError(f"transform 'tokenize': drop={self.drop} lies outside [0, 1]")

    def __call__(self, columns: Columns, draws: Draws) -> Columns:
        if "caption" not in columns:
            raise ValueError("tokenize: the data have no captions")
        several = [[c] if isinstance(c, str) else c for c in columns["caption"]]
        counts = np.array([len(captions) for captions in several])
        if not counts.all():
            raise ValueError("tokenize: a record has an empty list of captions")
        if self.pick == "random":
            chosen = draws.integers("caption", 0, counts)
        else:
            chosen = counts - 1 if self.pick == "last" else 0 * counts
        texts = [captions[i] for captions, i in zip(several, chosen, strict=True)]
        tokens = self.tokenizer.encode(texts)
        tokens[draws.uniform("drop") < self.drop] = self.tokenizer.blank
        others = {name: c for name, c in columns.items() if name != "caption"}
        return {**others, "tokens": tokens}


def tokenize(
    given: Tokenizer | None,
    pick: Literal["random", "first", "last"] = "random",
    drop: Probability = 0.0,
    tokenizer: str | None = None,
) -> Tokenize:
    """The transform of a config section; `given` is the run's tokenizer.

    `tokenizer` may name the fingerprint that the section was written for, as `describe` does.

    Raises:
      ValueError: no tokenizer, or another one than the section names.
    """
    if given is None:
        raise ValueError("transform 'tokenize' needs the run's tokenizer, and there is none")
    if tokenizer not in (None, given.fingerprint):
        raise ValueError(
            f"transform 'tokenize' was made for tokenizer {tokenizer}, but this run's is "
            f"{given.fingerprint}"
        )
    return Tokenize(given, pick, drop)
