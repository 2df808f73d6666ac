"""Records that an epoch shows more than once, chosen by their fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diffjax.choices import unknown
from diffjax.data.arrays import ArraySource
from diffjax.data.schema import Source


@dataclass(frozen=True)
class Oversample:
    """Attributes:
    where: field of a record -> value: the records with all of these, such as
      `{"num_objects": 1}`.
    times: how often an epoch shows each of them, where it shows others once; 0 leaves them out.
    """

    where: Mapping[str, int]
    times: int

    def __post_init__(self) -> None:
        if not self.where:
            raise ValueError("oversample: `where` names no field; it says which records are meant")
        if self.times < 0 or int(self.times) != self.times:
            raise ValueError(f"oversample: times={self.times} is no number of times: 0, 1, 2, ...")


def epoch_indices(source: Source, rules: Sequence[Oversample]) -> np.ndarray:
    """`[M] int64`: the indices of `source` that an epoch goes through, in rising order. A record
    that several rules mean is shown the product of their times.

    Raises:
      ValueError: a field that records do not have as a number, a rule that means no record, or
        rules that leave none.
    """
    times = np.ones(len(source), np.int64)
    for rule in rules:
        meant = np.ones(len(source), bool)
        for field, value in rule.where.items():
            meant &= _column(source, field) == value
        if not meant.any():
            raise ValueError(f"oversample: no record of {source.info.name} has {dict(rule.where)}")
        times[meant] *= rule.times
    if not times.any():
        raise ValueError(f"oversample: its rules leave no record of {source.info.name}")
    return np.repeat(np.arange(len(source)), times)


def _column(source: Source, field: str) -> np.ndarray:
    """The numbers `[N]` of a field."""
    first = source[0]
    numbers = [k for k, v in first.items() if k != "caption" and np.ndim(v) == 0]
    if field not in numbers:
        raise unknown("field of oversample.where:", field, numbers)
    if isinstance(source, ArraySource):
        return np.asarray(source.columns[field])
    return np.array([source[i][field] for i in range(len(source))])
