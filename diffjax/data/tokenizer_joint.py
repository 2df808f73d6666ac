"""Several tokenizers as one, for towers that read different ids of the same text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.bounded import read_json, shortened
from diffjax.data.tokenizer import Tokenizer
from diffjax.data.tokenizer_fast import FILE as FAST
from diffjax.data.tokenizer_fast import FastTokenizer, load_fast_tokenizer
from diffjax.data.tokenizer_files import load_tokenizer
from diffjax.fingerprints import short_hash

FILE = "parts.json"


@dataclass(frozen=True, eq=False)
class JointTokenizer:
    """Texts to rows `[L] int32` of each of `parts`' ids, one after another.

    Attributes:
      parts: at least two, none of them joint.
    """

    parts: tuple[Tokenizer | FastTokenizer, ...]

    def __post_init__(self) -> None:
        if len(self.parts) < 2:
            raise ValueError(f"a joint tokenizer is of at least two, not of {len(self.parts)}")

    @property
    def context(self) -> int:
        """L, ids in a row."""
        return sum(part.context for part in self.parts)

    @property
    def starts(self) -> tuple[int, ...]:
        """Where the ids of each part begin in a row."""
        return tuple(accumulate([part.context for part in self.parts[:-1]], initial=0))

    @property
    def vocab_size(self) -> int:
        """Ids lie in [0, vocab_size)."""
        return max(part.vocab_size for part in self.parts)

    @property
    def eot(self) -> int:
        """Id that ends every text of the first part."""
        return self.parts[0].eot

    @property
    def overlong(self) -> str:
        """Whether a part refuses a long text: "error", or "truncate"."""
        every = all(part.overlong == "truncate" for part in self.parts)
        return "truncate" if every else "error"

    @property
    def empty(self) -> str:
        """Whether a part refuses an empty text: "error", or "allow"."""
        return "allow" if all(part.empty == "allow" for part in self.parts) else "error"

    @property
    def null_ids(self) -> np.ndarray:
        """The row of the empty caption `[L] int32`."""
        return np.concatenate([part.null_ids for part in self.parts])

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Ids of `texts`, `[N, L] int32`.

        Raises:
          RefusedText: one that a part refuses.
        """
        return np.concatenate([part.encode(texts) for part in self.parts], axis=1)

    def decode(self, ids: Any) -> Any:
        """The text of a row, or those of several, as the first part reads it."""
        return self.parts[0].decode(np.asarray(ids)[..., : self.parts[0].context])

    def allowing_empty(self) -> JointTokenizer:
        """The same, for which an empty text is the empty caption."""
        return replace(self, parts=tuple(part.allowing_empty() for part in self.parts))

    @cached_property
    def fingerprint(self) -> str:
        """Hex digits, equal for two tokenizers exactly if they encode alike."""
        return short_hash([part.fingerprint for part in self.parts])

    @property
    def spelling(self) -> Any:
        """See `Tokenizer.spelling`."""
        return [part.spelling for part in self.parts]

    def save(self, folder: Path | str) -> None:
        """Writes what `load_saved` reads: a folder for each part."""
        folder = Path(folder)
        for i, part in enumerate(self.parts):
            part.save(folder / str(i))
        (folder / FILE).write_text(json.dumps({"parts": len(self.parts)}) + "\n")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JointTokenizer) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)


AnyTokenizer = Tokenizer | FastTokenizer | JointTokenizer


def join(tokenizers: Sequence[AnyTokenizer]) -> AnyTokenizer | None:
    """One tokenizer of several, each different one once; None of none."""
    parts: dict[str, Tokenizer | FastTokenizer] = {}
    for one in tokenizers:
        several = one.parts if isinstance(one, JointTokenizer) else (one,)
        parts |= {part.fingerprint: part for part in several if part.fingerprint not in parts}
    held = tuple(parts.values())
    return JointTokenizer(held) if len(held) > 1 else next(iter(held), None)


def load_saved(folder: Path) -> AnyTokenizer:
    """The tokenizer that the `save` of one has written, of whatever kind.

    Raises:
      ValueError: there is none, or it is damaged.
    """
    # Each kind writes a file that no other does.
    if not (folder / FILE).is_file():
        return _load_one(folder)
    count = read_json(folder / FILE).get("parts")
    if not isinstance(count, int) or not 2 <= count <= 16:
        raise ValueError(f"{folder / FILE}: parts={shortened(count)} is no number of tokenizers")
    return JointTokenizer(tuple(_load_one(folder / str(i)) for i in range(count)))


def _load_one(folder: Path) -> Tokenizer | FastTokenizer:
    return load_fast_tokenizer(folder) if (folder / FAST).is_file() else load_tokenizer(folder)
