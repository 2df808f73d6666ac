"""Named random streams: every key is a pure function of (seed, name, step, row).

A seed is a whole number from 0 to 2^63 - 1, and each is its own.

Nothing is threaded and nothing is consumed twice, so a resumed run draws the noise that the
uninterrupted one drew, and an example's noise does not depend on the batch it was grouped in.
"""

from __future__ import annotations

import zlib
from numbers import Integral
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

SEEDS = 2**63  # How many there are.


def check_seed(seed: Any, what: str = "seed") -> int:
    """`seed` as an int.

    Raises:
      ValueError: it is no whole number from 0 to 2^63 - 1; `what` names it.
    """
    number = int(seed) if isinstance(seed, Integral) and not isinstance(seed, bool) else -1
    if not 0 <= number < SEEDS:
        raise ValueError(f"{what}={seed!r}: a seed is a whole number from 0 to 2^63 - 1")
    return number


def seed_words(seed: int) -> int | list[int]:
    """`seed` for whatever takes 32 bits at a time: itself below 2^32, else `[low, high]`, which as
    a uint32 array is what predict functions take.

    Raises:
      ValueError: see `check_seed`.
    """
    high, low = divmod(check_seed(seed), 2**32)
    return [low, high] if high else low


def root(seed: Any) -> Array:
    """The key that everything random of a seed comes from (typed, shape []).

    Below 2^32 it is `jax.random.key(seed)`.

    Args:
      seed: an int; inside a jitted function the array of its `seed_words`, [] or [2] uint32.

    Raises:
      ValueError: an int that is no seed, see `check_seed`.
    """
    words: Any = seed_words(check_seed(seed)) if isinstance(seed, Integral) else seed
    if not jnp.ndim(words):
        return jax.random.key(words)
    # A stream of its own: no seed's root is the key of another seed's stream or step.
    return jax.random.fold_in(stream(jax.random.key(words[0]), "seed"), words[1])


def seed_after(seed: int, count: int) -> int:
    """The seed `count` after `seed`; the first comes after the last."""
    return (check_seed(seed) + count) % SEEDS


def stream(key: Array, name: str) -> Array:
    """The key of the stream called `name` under `key` (a typed key, shape [])."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def stage_seed(seed: Any, stage: str) -> Array:
    """The seed of a stage of a chain of models, as `root` takes it, `[2] uint32`: no two of a
    sample's stages share their noise."""
    return jax.random.bits(stream(root(seed), stage), (2,), jnp.uint32)


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
