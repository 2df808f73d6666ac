"""Named random streams: every key is a pure function of (seed, name, step, row).

Nothing is threaded and nothing is consumed twice, so a resumed run draws the noise that the
uninterrupted one drew, and an example's noise does not depend on the batch it was grouped in.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import jax
from jax import Array


def stream(key: Array, name: str) -> Array:
    """The key of the stream called `name` under `key` (a typed key, shape [])."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def per_row(key: Array, rows: Array) -> Array:
    """One key per row: `rows [B] int32` to keys `[B]`."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, rows)


def normal(keys: Array, shape: tuple[int, ...]) -> Array:
    """Standard normal noise `[B, *shape] float32`, row i drawn from `keys[i]` alone."""
    return jax.vmap(lambda k: jax.random.normal(k, shape))(keys)


def uniform(keys: Array, shape: tuple[int, ...] = ()) -> Array:
    """Uniform noise in [0, 1) `[B, *shape] float32`, row i drawn from `keys[i]` alone."""
    return jax.vmap(lambda k: jax.random.uniform(k, shape))(keys)


class Rng(NamedTuple):
    """The randomness of one train or evaluation step over (a slice of) a global batch.

    Attributes:
      key: the step's key, shape [].
      rows: `[b] int32`, each example's row in the global batch of `size` examples. A slice of
        the batch (a microbatch, a shard) carries its own rows, so its noise does not change.
      size: rows in the global batch.
      step: [] int32, updates done before this one, for losses that change along a run.
    """

    key: Array
    rows: Array
    size: int
    step: Array | int = 0

    def batch(self, name: str) -> Array:
        """One key for the whole batch, shape []."""
        return stream(self.key, name)

    def rowwise(self, name: str) -> Array:
        """One key per example, shape [b]."""
        return per_row(stream(self.key, name), self.rows)
