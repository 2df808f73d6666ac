"""The distance of two images in the layers of a network (Zhang et al. 2018)."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

# Added to the length of a feature vector, as in the original code; and its square's floor, so that
# a vector of zeros has a gradient.
EPS, FLOOR = 1e-10, 1e-20


def layer_distance(a: Array, b: Array, weight: Array | None = None) -> Array:
    """One layer's term of eq. 1, `[B] float32`, of maps `a`, `b [B, H, W, C]`.

    Vectors along the channels are made of length one; their squared difference is weighed by
    `weight [C]` (None: by ones, which makes it twice one minus the cosine), and averaged over
    places.
    """
    square = jnp.square(_unit(a) - _unit(b))
    weighed = square if weight is None else square * weight.astype(jnp.float32)
    return weighed.sum(-1).mean((1, 2))


def _unit(x: Array) -> Array:
    x = x.astype(jnp.float32)
    length = jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=-1, keepdims=True), FLOOR))
    return x / (length + EPS)
