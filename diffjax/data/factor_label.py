"""A data set seen by one of its factors: classes are its words, and records without it are left
out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from diffjax.data.captions import captions_of
from diffjax.data.schema import Record, Source


class FactorLabelSource:
    """The records of `source` that have a `factor`, whose index is their `label`.

    Args:
      source: records with the number `factor`, -1 where there is none.
      factor: a field.
      words: of the factor, which become the class names.

    Raises:
      ValueError: no record has the factor.
    """

    def __init__(self, source: Source, factor: str, words: Sequence[str]):
        self._source = source
        values = np.array([source[i][factor] for i in range(len(source))])
        self._kept, self._values = np.flatnonzero(values >= 0), values
        info = source.info
        if not len(self._kept):
            raise ValueError(f"{info.name}: no record of split {info.split!r} has a {factor!r}")
        self.info = dataclasses.replace(
            info,
            num_examples=len(self._kept),
            num_classes=len(words),
            class_names=tuple(words),
            fingerprint=f"{info.fingerprint} {factor}",
        )

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Record:
        at = int(self._kept[index])
        return {**self._source[at], "label": int(self._values[at])}

    def read_captions(self) -> Iterator[tuple[str, str | list[str]]]:
        """See `captions.captions_of`."""
        kept = set(self._kept.tolist())
        for i, caption in enumerate(captions_of(self._source)):
            if i in kept:
                yield caption
