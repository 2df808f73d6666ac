"""Whole data sets through a jitted function: fixed-size batches, padding, back to the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from diffjax.fingerprints import to_host


def padded_batches(arrays: Mapping[str, Any], batch_size: int) -> Iterator[dict[str, Any]]:
    """Slices of `arrays` (name -> `[N, ...]`, or a tree of them), every one of `batch_size` rows.

    Each batch also holds `index [B] int32` (the row in the whole set) and `mask [B] bool`. The
    last is filled with copies of row 0, where `mask` is False.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, not {batch_size}")
    count = len(jax.tree.leaves(arrays)[0])
    for start in range(0, count, batch_size):
        index = np.arange(start, start + batch_size)
        mask = index < count
        index = np.where(mask, index, 0).astype(np.int32)
        rows = jax.tree.map(lambda x, at=index: np.asarray(x)[at], dict(arrays))
        yield {**rows, "index": index, "mask": mask}


def map_batches(
    fn: Callable[[dict[str, Any]], Any],
    arrays: Mapping[str, Any],
    batch_size: int,
    sharding: jax.sharding.Sharding | None = None,
) -> Any:
    """`fn(batch)` over all of `arrays`: its outputs `[B, ...]` joined to `[N, ...]`, unpadded.

    Args:
      fn: a jitted function of one batch to a tree of arrays with a leading batch axis.
      arrays: name -> `[N, ...]`, or a tree of them.
      batch_size: rows given to `fn` at a time.
      sharding: where the batch lies on several devices; `batch_size` must divide by them.
    """
    outputs = []
    for batch in padded_batches(arrays, batch_size):
        kept = int(batch["mask"].sum())
        placed = batch if sharding is None else jax.device_put(batch, sharding)
        outputs.append(jax.tree.map(lambda x, n=kept: to_host(x)[:n], fn(placed)))
    if not outputs:
        raise ValueError("there are no examples to evaluate on; check the split's slice")
    return jax.tree.map(lambda *parts: np.concatenate(parts), *outputs)
