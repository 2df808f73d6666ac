"""Fidelity and diversity apart: k-nearest-neighbour manifolds of real and generated features.

Precision and recall: Kynkaanniemi et al. 2019. Density and coverage: Naeem et al. 2020.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from diffjax.metrics.rows import feature_pair


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]: generated inside the real manifold, real inside the generated one."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """`density` >= 0, 1 on average for equal distributions; `coverage` in [0, 1]."""

    density: float
    coverage: float


def _square_distances(x: np.ndarray, y: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    """`|x_i - y_j|^2` in blocks `[<= rows, m]` of x: one matrix product a block."""
    y_norm = np.square(y).sum(axis=1)
    for start in range(0, len(x), rows):
        block = x[start : start + rows]
        square = np.square(block).sum(axis=1)[:, None] + y_norm - 2 * (block @ y.T)
        yield np.maximum(square, 0.0)


def _radii(x: np.ndarray, k: int, rows: int) -> np.ndarray:
    """Squared distance `[n]` to the k-th nearest other point of the same set."""
    # Index k, not k - 1: every point is its own nearest neighbour, at distance 0.
    blocks = [np.partition(d, k, axis=1)[:, k] for d in _square_distances(x, x, rows)]
    return np.concatenate(blocks)


def _prepare(real: Any, fake: Any, k: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Both sets in float64 about the real mean, and the rounding error of a squared distance."""
    x, y = feature_pair(real, fake, least=1)
    if not (1 <= k < min(len(x), len(y))):
        raise ValueError(f"k must lie in 1 .. {min(len(x), len(y)) - 1} (smaller set), not {k}")
    mean = x.mean(axis=0)
    x, y = x - mean, y - mean
    scale = max(np.square(x).sum(axis=1).max(), np.square(y).sum(axis=1).max())
    return x, y, 64 * np.finfo(np.float64).eps * float(scale)


def _share_inside(
    points: np.ndarray, centres: np.ndarray, radii: np.ndarray, rows: int, slack: float
) -> float:
    """Share of `points` inside at least one ball."""
    inside = [
        (d <= radii + slack).any(axis=1).sum() for d in _square_distances(points, centres, rows)
    ]
    return float(sum(inside) / len(points))


def precision_recall(real: Any, fake: Any, k: int = 3, *, rows: int = 1024) -> PrecisionRecall:
    """Improved precision and recall of `fake [m, D]` against `real [n, D]` (eqs. 1, 2).

    A set's manifold is the union of the balls about its points that reach each one's k-th
    nearest neighbour. Distances are computed `rows` points at a time: memory rows x max(n, m).
    """
    x, y, slack = _prepare(real, fake, k)
    precision = _share_inside(y, x, _radii(x, k, rows), rows, slack)
    recall = _share_inside(x, y, _radii(y, k, rows), rows, slack)
    return PrecisionRecall(precision, recall)


def density_coverage(real: Any, fake: Any, k: int = 5, *, rows: int = 1024) -> DensityCoverage:
    """Density and coverage of `fake [m, D]` against `real [n, D]` (Naeem et al. eqs. 3, 4).

    Density counts how many real balls hold each generated point, over k: an outlier's huge ball
    adds little. Coverage is the share of real balls that hold a generated point. For equal
    distributions their means are 1 and about 1 - 2^-k.
    """
    x, y, slack = _prepare(real, fake, k)
    radii = _radii(x, k, rows)
    held = np.zeros(len(x))
    for d in _square_distances(y, x, rows):
        held += (d <= radii + slack).sum(axis=0)
    return DensityCoverage(float(held.sum() / (k * len(y))), float((held > 0).mean()))


def subset_manifolds(
    real: Any, fake: Any, keep: Any, *, precision_k: int = 3, density_k: int = 5
) -> np.ndarray:
    """Precision, recall, density and coverage of `fake[keep[r]]` for every row r: `[R, 4]`.

    For jackknives: all subsets (`keep [R, m] bool`) share one set of distances, which is held
    whole: memory m (n + m) doubles. Each row equals `precision_recall` and `density_coverage`.
    """
    keep = np.asarray(keep, bool)
    x, y, slack = _prepare(real, fake, max(precision_k, density_k))
    if keep.sum(axis=1).min() <= precision_k:
        raise ValueError(f"a subset has {keep.sum(axis=1).min()} examples: need over {precision_k}")
    near = np.concatenate(
        [np.partition(d, (precision_k, density_k), axis=1) for d in _square_distances(x, x, 1024)]
    )
    (to_real,) = _square_distances(y, x, len(y))
    (to_fake,) = _square_distances(y, y, len(y))
    inside = np.asarray((to_real <= near[:, precision_k] + slack).any(axis=1))
    held = np.asarray(to_real <= near[:, density_k] + slack)
    balls = held.sum(axis=1)
    out = []
    for kept in keep:
        radii = np.partition(to_fake[np.ix_(kept, kept)], precision_k, axis=1)[:, precision_k]
        recall = (to_real[kept] <= radii[:, None] + slack).any(axis=0).mean()
        density = balls[kept].mean() / density_k
        out.append((inside[kept].mean(), recall, density, held[kept].any(axis=0).mean()))
    return np.asarray(out)
