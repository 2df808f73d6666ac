"""Work shared out over processes, and its results brought back to each of them, bit for bit."""

from __future__ import annotations

import jax
import numpy as np
from jax.experimental import multihost_utils

from diffjax.metrics.frechet import Moments, accumulate


def own_share(count: int) -> range:
    """The places among `count` that this process works on: a run of them, in its turn."""
    process, processes = jax.process_index(), jax.process_count()
    return range(process * count // processes, (process + 1) * count // processes)


def gather(x: np.ndarray) -> list[np.ndarray]:
    """`x [n, ...]` of every process, in their order; n may differ, the dtype may not.

    JAX would round float64 to float32, so that arrays travel as bytes.
    """
    if jax.process_count() == 1:
        return [x]
    data = np.frombuffer(np.ascontiguousarray(x).tobytes(), np.uint8)
    sizes = multihost_utils.process_allgather(np.asarray([len(x), len(data)], np.uint32))
    padded = np.zeros(int(sizes[:, 1].max()), np.uint8)
    padded[: len(data)] = data
    everyone = np.asarray(multihost_utils.process_allgather(padded))
    return [
        np.frombuffer(row[:size].tobytes(), x.dtype).reshape(int(n), *x.shape[1:])
        for row, (n, size) in zip(everyone, sizes, strict=True)
    ]


def gather_moments(own: Moments | None, width: int) -> Moments:
    """The moments of all processes' examples together, the same on each of them.

    Args:
      own: this process's; None where it had no examples.
      width: of the features.

    Raises:
      ValueError: no process had any.
    """
    if own is None:
        own = Moments(0, np.zeros(width), np.zeros((width, width)))
    counts = gather(np.asarray([own.count]))
    means, covs = gather(own.mean), gather(own.cov)
    found = [Moments(int(n[0]), m, c) for n, m, c in zip(counts, means, covs, strict=True) if n[0]]
    return accumulate(found)
