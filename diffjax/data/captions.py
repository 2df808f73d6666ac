"""The transform that turns a record's captions into tokens, and the check that it can."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from diffjax.data.draws import Draws
from diffjax.data.prepared import PreparedSource
from diffjax.data.schema import Columns, Source
from diffjax.data.tokenizer import RefusedText
from diffjax.data.tokenizer_joint import AnyTokenizer
from diffjax.ranges import Probability

# Prepared sets of more records are not read through for their captions when a run starts.
MANY = 200_000
Pick = Literal["random", "first", "last"]
_CHUNK = 8192  # texts that are encoded at a time


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

    tokenizer: AnyTokenizer
    pick: Pick = "random"
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
        tokens[draws.uniform("drop") < self.drop] = self.tokenizer.null_ids
        others = {name: c for name, c in columns.items() if name != "caption"}
        return {**others, "tokens": tokens}


def tokenize(
    run_tokenizer: AnyTokenizer | None,
    pick: Pick = "random",
    drop: Probability = 0.0,
    tokenizer: str | None = None,
) -> Tokenize:
    """The transform of a config section; `run_tokenizer` is the run's.

    `tokenizer` may name the fingerprint that the section was written for, as `describe` does.

    Raises:
      ValueError: no tokenizer, or another one than the section names.
    """
    if run_tokenizer is None:
        raise ValueError("transform 'tokenize' needs the run's tokenizer, and there is none")
    if tokenizer not in (None, run_tokenizer.fingerprint):
        raise ValueError(
            f"transform 'tokenize' was made for tokenizer {tokenizer}, but this run's is "
            f"{run_tokenizer.fingerprint}"
        )
    return Tokenize(run_tokenizer, pick, drop)


def captions_of(source: Source) -> Iterator[tuple[str, str | list[str]]]:
    """(where it stands, caption or captions) of every record, in order; nothing of a source without
    captions. Sources that can do so (`read_captions`) give them without decoding an image."""
    read: Any = getattr(source, "read_captions", None)
    if read is not None:
        yield from read()
        return
    for i in range(len(source)):
        record = source[i]
        if "caption" not in record:
            return
        yield f"{source.info.name}: record {i}", record["caption"]


def check_captions(source: Source, transforms: Sequence[Any]) -> None:
    """Encodes every caption of `source` that a `Tokenize` among `transforms` may ask for.

    Captions of a prepared set of more than MANY records are not read here, and the log says so:
    `experiments.prepare_data --tokenizer` checks them when the set is written.

    Raises:
      ValueError: a caption that the tokenizer refuses, by the file and line where it stands.
    """
    tokenizers: dict[Pick, AnyTokenizer] = {
        t.pick: t.tokenizer for t in transforms if isinstance(t, Tokenize)
    }
    for pick, tokenizer in tokenizers.items():
        # All that "first" and "last" ask for is among what "random" may.
        if (pick != "random" and "random" in tokenizers) or _takes_all(tokenizer):
            continue
        if isinstance(source, PreparedSource) and len(source) > MANY:
            logging.warning(
                "%s: its %d captions are not checked now; experiments.prepare_data --tokenizer "
                "does that when a set is written",
                *(source.folder, len(source)),
            )
            continue
        check_texts(source, tokenizer, pick)


def check_texts(source: Source, tokenizer: AnyTokenizer, pick: Pick = "random") -> None:
    """Encodes every caption that `pick` may choose; see `check_captions`."""
    places: dict[str, str] = {}
    for where, text in _texts(source, pick):
        places.setdefault(text, where)
    texts = list(places)
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        try:
            tokenizer.encode(chunk)
        except RefusedText as error:
            raise ValueError(f"{places[chunk[error.index]]}: the caption {error.reason}") from None


def _takes_all(tokenizer: AnyTokenizer) -> bool:
    return tokenizer.overlong == "truncate" and tokenizer.empty == "allow"


def _texts(source: Source, pick: Pick) -> Iterator[tuple[str, str]]:
    """(where it stands, text) of what `pick` may choose."""
    for where, caption in captions_of(source):
        several = [caption] if isinstance(caption, str) else caption
        if not several:
            raise ValueError(f"{where}: an empty list of captions")
        chosen = {"random": several, "first": several[:1], "last": several[-1:]}[pick]
        yield from ((where, text) for text in chosen)
