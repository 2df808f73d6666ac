"""Counter-based randomness: a draw is a pure function of (seed, position, name).

A numpy Generator per example costs 20 microseconds; hashing a counter costs nothing per example
and gives the same number whatever batch, process or worker the example is read in.
The hash is the finaliser of splitmix64 (Steele, Lea and Flood 2014).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


def mix(x: np.ndarray) -> np.ndarray:
    """Splitmix64 of `x [...] uint64`: a bijection whose output bits look independent."""
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


def seed_word(seed: int, name: str) -> np.ndarray:
    """`[1] uint64`, the key of the stream `name` of a run's `seed` (see `keys.check_seed`)."""
    word = np.array([seed], np.uint64)
    return mix(mix(word) ^ np.uint64(zlib.crc32(name.encode())))


@dataclass(frozen=True)
class Draws:
    """One independent stream of random numbers per example.

    Attributes:
      keys: `[B] uint64`.
    """

    keys: np.ndarray

    @classmethod
    def at(cls, seed: int, positions: np.ndarray) -> Draws:
        """Streams of the examples at `positions [B] int64` of the training order."""
        return cls(mix(seed_word(seed, "augment") ^ mix(positions.astype(np.uint64))))

    def stream(self, name: str) -> Draws:
        """The streams called `name`, independent of those of any other name."""
        return Draws(mix(self.keys ^ mix(np.array([zlib.crc32(name.encode())], np.uint64))))

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """`[B] float64` in [low, high)."""
        unit = (self.stream(name).keys >> np.uint64(11)) * 2.0**-53
        return low + (high - low) * unit

    def normal(self, name: str) -> np.ndarray:
        """`[B] float64`, standard normal (Box and Muller 1958)."""
        # 1 - u lies in (0, 1], so its logarithm is finite.
        radius = np.sqrt(-2 * np.log1p(-self.uniform(f"{name} radius")))
        return radius * np.cos(2 * np.pi * self.uniform(f"{name} angle"))

    def integers(self, name: str, low: int, high: int | np.ndarray) -> np.ndarray:
        """`[B] int64` in [low, high), `high` exclusive, one bound or `[B]`."""
        span = np.asarray(high, np.int64) - low
        return low + np.minimum((self.uniform(name) * span).astype(np.int64), span - 1)
