"""Means of examples that come in clusters: images drawn by one text, captions of one image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Clustered(NamedTuple):
    """`std`, the standard error of a mean whose clusters were drawn at random; `clusters`, how many
    there are; `whole`, the standard error if all examples of each cluster were alike."""

    std: float
    clusters: int
    whole: float


def clustered_error(each: Any, clusters: Any) -> Clustered:
    """The standard error of the mean of `each [N]`, linearised (Cochran 1977, eq. 11.30): clusters
    may differ in size.

    Args:
      clusters: `[N]`, of any values: examples of equal ones belong together.

    Of a single cluster nothing tells how others differ: it counts as a single example.
    """
    each = np.asarray(each, np.float64)
    _, place, size = np.unique(np.asarray(clusters), return_inverse=True, return_counts=True)
    groups, rest = len(size), each - each.mean()
    whole = float(np.sqrt(each.var() * np.square(size).sum()) / len(each))
    if groups == 1:
        return Clustered(float(each.std()), 1, whole)
    of_groups = np.bincount(place, weights=rest)
    std = np.sqrt(np.square(of_groups).sum() * groups / (groups - 1)) / len(each)
    return Clustered(float(std), groups, whole)
