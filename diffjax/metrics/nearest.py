"""Nearest neighbours of samples among training images: does the model copy?"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Nearest(NamedTuple):
    """`index [n, k] int64` into the reference, nearest first, and `distance [n, k] float64`."""

    index: np.ndarray
    distance: np.ndarray


def nearest(x: Any, reference: Any, k: int = 1, *, rows: int = 1024) -> Nearest:
    """The k nearest rows of `reference [m, D]` to each of `x [n, D]`, `rows` of x at a time."""
    x, y = np.asarray(x, np.float64), np.asarray(reference, np.float64)
    if not 1 <= k <= len(y):
        raise ValueError(f"k must lie in 1 .. {len(y)} (the reference), not {k}")
    norm = np.square(y).sum(axis=1)
    index = []
    for start in range(0, len(x), rows):
        # |x|^2 is the same for every candidate: it does not change their order.
        order = norm - 2 * (x[start : start + rows] @ y.T)
        best = np.argpartition(order, k - 1, axis=1)[:, :k]
        ranked = np.argsort(np.take_along_axis(order, best, axis=1), axis=1, kind="stable")
        index.append(np.take_along_axis(best, ranked, axis=1))
    found = np.concatenate(index)
    # Distances from the differences themselves: an exact copy is at exactly 0.
    columns = [np.linalg.norm(x - y[found[:, j]], axis=1) for j in range(k)]
    return Nearest(found, np.stack(columns, axis=1))


def copy_ratio(samples: Any, held_out: Any, train: Any) -> float:
    """Median distance of samples to their nearest training image, over that of held-out images.

    About 1 for samples as new as held-out images are; 0 for copies; larger for samples that lie
    off the data altogether, so it is read beside a distance. Features `[n, D]`, `[h, D]`, `[m, D]`.
    """
    ours = np.median(nearest(samples, train).distance)
    theirs = np.median(nearest(held_out, train).distance)
    return float(ours / max(theirs, 1e-12))
