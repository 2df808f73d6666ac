"""Kernel distances between feature sets: KID (polynomial kernel) and an RBF MMD as in CMMD."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from diffjax.keys import seed_words
from diffjax.metrics.rows import feature_pair, feature_rows

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


class KernelDistance(NamedTuple):
    """`mean` of the squared distance over subsets, and their standard deviation `std`.

    `std` is the spread that papers print beside KID. Subsets overlap, so it is not the standard
    error of `mean`: `stratified.subsets_error` is.
    """

    mean: float
    std: float


def polynomial(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """`(x . y / D + 1)^3`: `x [n, D]`, `y [m, D]` to `[n, m]` (Binkowski et al. 2018, eq. 4)."""
    k = x @ y.T / x.shape[1] + 1.0
    return k * k * k  # `** 3` takes ten times as long


def rbf(sigma: float) -> Kernel:
    """`exp(-|x - y|^2 / (2 sigma^2))` as a kernel `[n, D], [m, D] -> [n, m]`."""

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        square = np.square(x).sum(1)[:, None] + np.square(y).sum(1)[None, :] - 2 * x @ y.T
        return np.exp(-np.maximum(square, 0.0) / (2 * sigma**2))

    return kernel


def _sums(kernel: Kernel, x: np.ndarray, y: np.ndarray, rows: int = 2048) -> tuple[float, float]:
    """Sum of `kernel(x, y)` over all pairs, and over its diagonal, `rows` rows at a time."""
    total, diagonal = 0.0, 0.0
    for start in range(0, len(x), rows):
        block = kernel(x[start : start + rows], y)
        total += float(block.sum())
        diagonal += float(np.trace(block, offset=start))
    return total, diagonal


def squared_mmd(x: Any, y: Any, kernel: Kernel = polynomial, *, unbiased: bool = True) -> float:
    """Squared maximum mean discrepancy of `x [n, D]` and `y [m, D]` (Gretton et al. 2012).

    `unbiased` leaves the diagonals out (eq. 3): zero on average for equal distributions, so it
    may be negative. Otherwise the V-statistic (eq. 5), never negative.
    """
    x, y = feature_pair(x, y, least=2)
    n, m = len(x), len(y)
    sum_xx, diag_xx = _sums(kernel, x, x)
    sum_yy, diag_yy = _sums(kernel, y, y)
    cross = _sums(kernel, x, y)[0] / (n * m)
    if unbiased:
        within = (sum_xx - diag_xx) / (n * (n - 1)) + (sum_yy - diag_yy) / (m * (m - 1))
    else:
        within = sum_xx / n**2 + sum_yy / m**2
    return float(within - 2 * cross)


def merged(label: Any) -> np.ndarray:
    """`label [n]` as 0, 1, ..., classes of a single row taken together."""
    _, place, size = np.unique(np.asarray(label), return_inverse=True, return_counts=True)
    return np.unique(np.where(size[place] > 1, place, -1), return_inverse=True)[1]


def random_subsets(
    n: int, m: int, size: int, count: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`count` subsets of `size` rows of n and of m, as torch-fidelity's code draws them."""
    rng = np.random.RandomState(seed_words(seed))
    for _ in range(count):
        yield rng.choice(n, size, replace=False), rng.choice(m, size, replace=False)


def _balance(x: np.ndarray, label: np.ndarray, size: np.ndarray) -> float:
    """The correction of `squared_mmd` of the subset `x [s, D]` for the mixture it was drawn of.

    Of the whole set of n rows, `size [K]` of each class, pairs of one class are
    (n_k - 1) / (n - 1) n / n_k as frequent as in the mixture, others n / (n - 1); so they are,
    on average, in any subset.
    """
    n, s = int(size.sum()), len(x)
    total, diagonal = _sums(polynomial, x, x)
    more = -(total - diagonal) / n
    for k in np.unique(label):
        own = x[label == k]
        total, diagonal = _sums(polynomial, own, own)
        more += (total - diagonal) * (n - 1) / (n * max(int(size[k]) - 1, 1))
    return more / (s * (s - 1))


def kernel_distance(
    x: Any, y: Any, *, subset_size: int = 1000, subsets: int = 100, seed: int, label: Any = None
) -> KernelDistance:
    """KID: the unbiased polynomial MMD^2 over random subsets (Binkowski et al. 2018).

    Args:
      x, y: features `[n, D]` and `[m, D]`.
      subset_size: rows of a subset, cut to the smaller set where that has fewer.
      subsets: how many, drawn without replacement inside each.
      seed: of the subsets, which are those of torch-fidelity's code for the same seed.
      label: `[n]`, where x was drawn class by class: pairs of one class then weigh as in the
        mixture of the classes. Without it rows are taken for independent draws.
    """
    x, y = feature_pair(x, y, least=2)
    if subset_size < 2 or subsets < 1:
        raise ValueError(f"subset_size {subset_size} and subsets {subsets}: need >= 2 and >= 1")
    size = min(subset_size, len(x), len(y))
    strata = np.zeros(len(x), int) if label is None else merged(label)
    values = []
    for i, j in random_subsets(len(x), len(y), size, subsets, seed):
        lacks = 0.0 if label is None else _balance(x[i], strata[i], np.bincount(strata))
        values.append(squared_mmd(x[i], y[j]) + lacks)
    return KernelDistance(float(np.mean(values)), float(np.std(values)))


def rbf_distance(x: Any, y: Any, *, sigma: float = 10.0, scale: float = 1000.0) -> float:
    """`scale` times the V-statistic RBF MMD^2 (Jayasumana et al. 2024, CMMD: 10 and 1000).

    CMMD's numbers are this on CLIP embeddings of unit length; see `unit_rows`.
    """
    return scale * squared_mmd(x, y, rbf(sigma), unbiased=False)


def unit_rows(x: Any) -> np.ndarray:
    """`x [n, D]` over the length of each row, float64. Raises ValueError for a row of zeros."""
    x = feature_rows(x)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    if not length.all():
        raise ValueError(f"row {int(np.argmin(length))} is zero: it has no direction")
    return x / length
