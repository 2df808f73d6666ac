"""A paper's numbers on the axes of a sweep, to stand beside ours in its table and its plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Published:
    """One metric of one table of a paper.

    Attributes:
      name: what tells its column from another's: "CIFAR-10".
      source: paper, table, protocol.
      metric: ours that it stands beside.
      axes: of the sweep, in the order of the keys of `values`.
      values: a value of each axis (the label, where it is a `Choice`) -> the number. Those that
        the sweep does not run are drawn all the same.
    """

    name: str
    source: str
    metric: str
    axes: tuple[str, ...]
    values: Mapping[tuple[Any, ...], float]

    def __post_init__(self) -> None:
        for key in self.values:
            if len(key) != len(self.axes):
                raise ValueError(f"published {self.name}: {key} is no value of {self.axes}")

    def describe(self) -> dict[str, Any]:
        """As JSON holds it."""
        rows = [{"at": list(key), "value": value} for key, value in self.values.items()]
        return {
            "name": self.name,
            "source": self.source,
            "metric": self.metric,
            "axes": list(self.axes),
            "rows": rows,
        }


def table_of(
    metric: str, name: str, source: str, axes: tuple[str, str], rows: Mapping[Any, Sequence[float]],
    columns: Sequence[Any],
) -> Published:  # fmt: skip
    """A paper's table of two axes: `rows` are the first axis' values, each with a number per value
    of the second, `columns`."""
    values = {
        (row, column): value
        for row, numbers in rows.items()
        for column, value in zip(columns, numbers, strict=True)
    }
    return Published(name, source, metric, axes, values)


def beside(published: Mapping[str, Any], assignment: Mapping[str, Any]) -> float | None:
    """The number that a `Published.describe()` gives for an assignment; None where it has none."""
    at = [assignment[axis] for axis in published["axes"]]
    return next((row["value"] for row in published["rows"] if row["at"] == at), None)


def values_of(published: Mapping[str, Any], axis: str) -> list[Any]:
    """The values of an axis that a `Published.describe()` has, in the paper's order."""
    place = published["axes"].index(axis)
    return list(dict.fromkeys(row["at"][place] for row in published["rows"]))
