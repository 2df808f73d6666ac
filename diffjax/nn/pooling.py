"""Pools over windows of 3 x 3, without parameters.

XLA's CPU backend walks a window pixel by pixel; as slices along one axis and then the other the
same pool vectorises, three to eight times as fast. Other platforms get the window.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax


def _combine(x: Array, stride: int, two: Callable[[Array, Array], Array]) -> Array:
    """Three neighbours along each of the spatial axes of `x [B, H, W, C]`, whole windows only."""
    for axis in (1, 2):
        last = x.shape[axis] - 2
        a, b, c = (lax.slice_in_dim(x, i, last + i, stride, axis) for i in range(3))
        x = two(two(a, b), c)
    return x


def max_pool(x: Array, stride: int, pad: bool) -> Array:
    """The largest of each window of `x [B, H, W, C]`; `pad` lets windows hang over the border by
    one, which adds no pixel."""
    margin = (1, 1) if pad else (0, 0)
    padding = ((0, 0), margin, margin, (0, 0))

    def window(x: Array) -> Array:
        low = np.asarray(-np.inf, x.dtype)  # a constant: JAX then knows a maximum
        return lax.reduce_window(x, low, lax.max, (1, 3, 3, 1), (1, stride, stride, 1), padding)

    def slices(x: Array) -> Array:
        return _combine(jnp.pad(x, padding, constant_values=-jnp.inf), stride, jnp.maximum)

    return lax.platform_dependent(x, cpu=slices, default=window)


def average_pool(x: Array) -> Array:
    """The mean of each window about a pixel of `x [B, H, W, C]`, over the pixels that there are."""
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))

    def window(x: Array) -> Array:
        return lax.reduce_window(x, np.zeros((), x.dtype), lax.add, (1, 3, 3, 1), (1,) * 4, padding)

    def slices(x: Array) -> Array:
        return _combine(jnp.pad(x, padding), 1, jnp.add)

    counts = [
        np.minimum(np.arange(n) + 2, n) - np.maximum(np.arange(n) - 1, 0) for n in x.shape[1:3]
    ]
    share = jnp.asarray(1.0 / np.outer(*counts)[..., None], x.dtype)
    total: jax.Array = lax.platform_dependent(x, cpu=slices, default=window)
    return total * share
