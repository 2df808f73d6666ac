"""Large contrastive batches in the memory of a small one: gradient caching (Gao et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def chunked_encode(encode: Callable[[Any], Any], inputs: Any, chunks: int) -> Any:
    """`encode(inputs)`, holding the activations of one chunk of rows at a time.

    Forwards, each chunk is encoded and its activations forgotten; backwards, when the derivative by
    all embeddings is known, each chunk is encoded again and differentiated, its part of the
    parameters' gradient added up. That is gradient caching, steps 1 to 3 of section 3.2, found by
    differentiating a loop over a checkpointed function; so any loss may stand behind it, at the
    price of a second forward pass of the encoder.

    Args:
      encode: a pure function of rows, `[b, ...]` arrays to `[b, ...]` arrays. Its parameters are
        closed over; its noise must come from `inputs` (keys or row numbers), or else all chunks
        draw the same.
      inputs: a tree of arrays `[B, ...]`, typed keys included.
      chunks: 1 encodes all rows at once, holding everything.

    Raises:
      ValueError: `chunks` does not divide B.
    """
    if chunks == 1:
        return encode(inputs)
    rows = len(jax.tree.leaves(inputs)[0])
    if chunks < 1 or rows % chunks:
        raise ValueError(f"{rows} rows do not split into {chunks} chunks of equal size")
    # Chunk i takes rows i, i + chunks, ...: every device keeps its own rows.
    parts = jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(rows // chunks, chunks, *x.shape[1:]), 1, 0), inputs
    )
    # In a loop nothing can be merged with the first pass, so no barrier is needed against it.
    out = jax.lax.map(jax.checkpoint(encode, prevent_cse=False), parts)
    return jax.tree.map(lambda y: jnp.moveaxis(y, 0, 1).reshape(rows, *y.shape[2:]), out)
