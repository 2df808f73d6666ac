"""One pass over a source, in its order: every example once, for evaluators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

import jax
import numpy as np

from diffjax.data.arrays import read
from diffjax.data.draws import Draws
from diffjax.data.loader import numeric
from diffjax.data.schema import Columns, Source
from diffjax.data.transforms import Transform, apply


def as_arrays(source: Source, transforms: Sequence[Transform], limit: int | None = None) -> Columns:
    """The first `limit` examples (by default all), name -> `[N, ...]`. A random transform draws by
    position, so every pass sees the same images."""
    n = len(source) if limit is None else min(limit, len(source))
    parts = [
        _transformed(source, transforms, np.arange(start, min(start + 1024, n)))
        for start in range(0, n, 1024)
    ]
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def outline(source: Source, transforms: Sequence[Transform]) -> Mapping[str, jax.ShapeDtypeStruct]:
    """The shapes of `as_arrays`, of which one example tells."""
    row = _transformed(source, transforms, np.arange(1))
    return {k: jax.ShapeDtypeStruct((len(source), *x.shape[1:]), x.dtype) for k, x in row.items()}


class ReadWhenAsked(Mapping[str, np.ndarray]):
    """Columns that `make` gives once, when first looked at: a training split of millions of
    examples is named by every run and read by few evaluators."""

    def __init__(
        self,
        make: Callable[[], Mapping[str, np.ndarray]],
        outline: Callable[[], Mapping[str, jax.ShapeDtypeStruct]] | None = None,
    ):
        self._make, self._outline = make, outline

    @cached_property
    def outline(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of each column; read off all of them where nothing else tells."""
        if self._outline is not None:
            return self._outline()
        return {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in self._columns.items()}

    @cached_property
    def _columns(self) -> Mapping[str, np.ndarray]:
        return self._make()

    def __getitem__(self, name: str) -> np.ndarray:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def _transformed(source: Source, transforms: Sequence[Transform], indices: np.ndarray) -> Columns:
    """Examples at `indices [B]`, transformed, as arrays."""
    return numeric(apply(transforms, read(source, indices), Draws.at(0, indices)))
