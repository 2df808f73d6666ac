"""Learned position tables of vision transformers, brought to another grid of patches."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def resize_positions(table: ArrayLike, side: int) -> Array:
    """`table [1 + s^2, D] -> [1 + side^2, D]`: bicubic over the grid, antialiased.

    The first row, the class token's, stays (Dosovitskiy et al. 2021, section 3.2).

    Raises:
      ValueError: no table of a square grid and one token.
    """
    table = jnp.asarray(table)
    old = round((len(table) - 1) ** 0.5)
    if old * old + 1 != len(table):
        raise ValueError(f"{len(table)} positions are no square grid and one token")
    if old == side:
        return table
    grid = table[1:].reshape(old, old, -1)
    grid = jax.image.resize(grid, (side, side, grid.shape[-1]), "bicubic", antialias=True)
    return jnp.concatenate([table[:1], grid.reshape(side * side, -1)])
