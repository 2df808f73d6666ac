"""Padding of texts that encoders of both directions read: what is seen of a row, and its mean."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def seen_tokens(tokens: Array, pad: int, mask: Array | None) -> Array:
    """`[B, L] bool`, False at what no token may see: `mask`, by default where a token is `pad`."""
    return tokens != pad if mask is None else mask.astype(bool)


def mean_of_seen(features: Array, mask: Array) -> Array:
    """The mean `[B, D]` of `features [B, L, D]` over the tokens of `mask [B, L] bool`; 0 where it
    has none."""
    count = jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
    return jnp.where(mask[..., None], features, 0.0).sum(axis=1) / count


def check_text(name: str, tokens: Array, depth: int, skip: int) -> None:
    """Raises ValueError for tokens that are no `[B, L]`, or more blocks left out than there are."""
    if tokens.ndim != 2:
        raise ValueError(f"{name} got tokens of shape {tokens.shape}; it needs [B, L]")
    if not 0 <= skip < depth:
        raise ValueError(f"{name} has {depth} blocks: skip={skip} of them cannot be left out")
