"""A noise level, and the few things that are computed from one."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array


class Level(NamedTuple):
    """A point on the noise path `z = alpha x + sigma eps`; the fields share one shape ([] or [B]).

    Numpy float64 while tables are built, jax float32 inside a jitted function.

    Attributes:
      t: the schedule's own time (a table index, or a real number).
      alpha: signal scale, >= 0.
      sigma: noise scale, >= 0.
    """

    t: Any
    alpha: Any
    sigma: Any

    @property
    def logsnr(self) -> Any:
        """`lambda = log(alpha^2 / sigma^2)`: +inf without noise, -inf without signal."""
        xp = namespace(self.alpha)
        with np.errstate(divide="ignore"):
            return 2 * (xp.log(self.alpha) - xp.log(self.sigma))

    @property
    def ratio(self) -> Any:
        """`sigma / alpha`: EDM's sigma, the coordinate in which DDIM is Euler."""
        with np.errstate(divide="ignore"):
            return self.sigma / self.alpha


CLEAN = Level(t=np.float64(0), alpha=np.float64(1), sigma=np.float64(0))


def namespace(value: Any) -> Any:
    """numpy for numpy values and Python numbers (float64 tables), jax.numpy for jax arrays."""
    return jnp if isinstance(value, Array) else np


def broadcast_to(coefficient: Any, like: Array) -> Any:
    """Coefficient [] or [B], shaped to multiply `like [B, ...]`."""
    c = jnp.asarray(coefficient, jnp.float32)
    return c.reshape(c.shape + (1,) * (like.ndim - c.ndim)) if c.ndim else c


def take(levels: Level, index: Any) -> Level:
    """Rows of a stack of levels."""
    return Level(*(np.asarray(field)[index] for field in levels))
