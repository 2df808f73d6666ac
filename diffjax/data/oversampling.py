"""Records that an epoch shows more than once, chosen by their fields."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diffjax.choices import unknown
from diffjax.data.arrays import ArraySource
from diffjax.data.schema import Source
from diffjax.ranges import Integer, Times


@dataclass(frozen=True)
class Oversample:
    """Attributes:
    where: field of a record -> value: the records with all of these, such as
      `{"num_objects": 1}`.
    times: how often an epoch shows each of them, where it shows others once; 0 leaves them out.
    """

    where: Mapping[str, Integer]
    times: Times

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
    columns = _columns(source, {field for rule in rules for field in rule.where})
    times = np.ones(len(source), np.int64)
    for rule in rules:
        meant = np.ones(len(source), bool)
        for field, value in rule.where.items():
            meant &= columns[field] == value
        if not meant.any():
            raise ValueError(f"oversample: no record of {source.info.name} has {dict(rule.where)}")
        times[meant] *= rule.times
    if not times.any():
        raise ValueError(f"oversample: its rules leave no record of {source.info.name}")
    return np.repeat(np.arange(len(source)), times)


def _columns(source: Source, fields: Collection[str]) -> dict[str, np.ndarray]:
    """The numbers `[N]` of each field, in one pass that keeps no image."""
    numbers = [k for k, v in source[0].items() if k != "caption" and np.ndim(v) == 0]
    for field in fields:
        if field not in numbers:
            raise unknown("field of oversample.where:", field, numbers)
    if isinstance(source, ArraySource):
        return {field: np.asarray(source.columns[field]) for field in fields}
    rows = []
    for i in range(len(source)):
        record = source[i]
        rows.append([record[field] for field in fields])
    return dict(zip(fields, np.array(rows).T, strict=True))
