"""Images as sequences of square patches, and back."""

from __future__ import annotations

from jax import Array


def patchify(x: Array, patch: int) -> Array:
    """`[B, H, W, C] -> [B, L, patch * patch * C]`, L row by row, pixels as (row, column, C)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // patch, patch, w // patch, patch, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, (h // patch) * (w // patch), patch * patch * c)


def unpatchify(x: Array, rows: int, columns: int, patch: int) -> Array:
    """The inverse of `patchify`: `[B, rows * columns, patch * patch * C] -> [B, H, W, C]`."""
    x = x.reshape(x.shape[0], rows, columns, patch, patch, -1).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(x.shape[0], rows * patch, columns * patch, -1)
