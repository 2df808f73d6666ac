"""The unbiased MMD^2 of sets drawn class by class, and its standard error.

Of n images drawn class by class, pairs of one class are rarer than among independent draws: the
U-statistic of their mixture is too low by 1 / (n - 1) of how much more alike two images of a class
are than two of any. Weighted by the classes' shares, pairs of each kind are as frequent as in the
mixture, and equal distributions are at zero on average, however many images there are of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from diffjax.metrics.kernel import (
    Kernel,
    KernelDistance,
    merged,
    polynomial,
    random_subsets,
)
from diffjax.metrics.rows import feature_pair


@dataclass(frozen=True, eq=False)
class Strata:
    """Weights by which n rows, sorted by class, stand for a mixture of K classes.

    Attributes:
      size: `[K] int`, rows of each class, two or more.
      share: `[K]`, of each in the mixture; sums to one.
    """

    size: np.ndarray
    share: np.ndarray

    @property
    def start(self) -> np.ndarray:
        """The first row of each class."""
        return np.cumsum(self.size) - self.size

    @cached_property
    def row(self) -> np.ndarray:
        """Weight of each row in a mean over the mixture, `[n]`."""
        return np.repeat(self.share / self.size, self.size)

    @cached_property
    def pair(self) -> np.ndarray:
        """Weight of a pair of different rows of two classes, `[K, K]`."""
        weight = np.outer(self.share / self.size, self.share / self.size)
        np.fill_diagonal(weight, self.share**2 / (self.size * (self.size - 1)))
        return weight

    def sums(self, k: np.ndarray, axis: int) -> np.ndarray:
        """Sums of `k` over the rows of each class along `axis`."""
        return np.add.reduceat(k, self.start, axis=axis)

    def variance_of_sum(self, each: np.ndarray) -> float:
        """Variance of the sum of `each [n]`, independent draws within each class."""
        mean = np.repeat(self.sums(each, 0) / self.size, self.size)
        spread = self.sums(np.square(each - mean), 0) / (self.size - 1)
        return float((self.size * spread).sum())


class Variance(NamedTuple):
    """Variance of an MMD^2 by its parts (Hoeffding 1948): `x` and `y`, of what single rows
    contribute, and `xx`, `yy`, `xy`, of pairs, which alone are left where both distributions are
    equal."""

    x: float
    y: float
    xx: float
    yy: float
    xy: float

    def total(self, more_x: float = 1.0, more_y: float = 1.0) -> tuple[float, float]:
        """Variance, and what of it further draws of x would leave; of sets so many times larger."""
        common = max(self.y, 0.0) / more_y + self.yy / more_y**2
        own = max(self.x, 0.0) / more_x + self.xx / more_x**2 + self.xy / (more_x * more_y)
        return own + common, common


class Estimate(NamedTuple):
    """`value`, its standard error `std`, and the part `common` of that which is y's alone: further
    draws of x do not lessen it."""

    value: float
    std: float
    common: float


class _Part(NamedTuple):
    """A sum over pairs: `value`, each row's and column's contribution, variance by pairs alone."""

    value: float
    rows: np.ndarray
    columns: np.ndarray
    second: float


def _second(weight: np.ndarray, k: np.ndarray, of_rows: np.ndarray, of_columns: np.ndarray,
            of_blocks: np.ndarray, x: Strata, y: Strata, diagonal: bool) -> float:  # fmt: skip
    """`sum_ij weight_ij^2 k_ij^2` of what single rows and columns do not explain of `k [n, m]`.

    `k` is changed. What they explain are the means over classes `of_rows [n, L]`,
    `of_columns [K, m]` and `of_blocks [K, L]`; what centring takes of the squares is given back.
    """
    for c, start in enumerate(x.start):
        k[start : start + x.size[c]] -= of_columns[c] - np.repeat(of_blocks[c], y.size)
    for c, start in enumerate(y.start):
        k[:, start : start + y.size[c]] -= of_rows[:, c : c + 1]
    np.square(k, out=k)
    if not diagonal:
        np.fill_diagonal(k, 0.0)
    squares = x.sums(y.sums(k, 1), 0)
    return float((weight**2 * squares / np.outer(1 - 1 / x.size, 1 - 1 / y.size)).sum())


def _within(k: np.ndarray, x: Strata) -> _Part:
    """The sum over pairs of different rows of one set; `k [n, n]` is changed."""
    np.fill_diagonal(k, 0.0)
    of_rows = x.sums(k, 1)
    sums, partners = x.sums(of_rows, 0), x.size - np.eye(len(x.size))
    means = of_rows / np.repeat(partners, x.size, axis=0)
    blocks = sums / (x.size[:, None] * partners)
    rows = (of_rows * np.repeat(x.pair, x.size, axis=0)).sum(axis=1)
    second = 2 * _second(x.pair, k, means, means.T, blocks, x, x, diagonal=False)
    return _Part(float((x.pair * sums).sum()), rows, rows, second)


def _across(k: np.ndarray, x: Strata, y: Strata) -> _Part:
    """The sum over pairs of a row of each set; `k [n, m]` is changed."""
    of_rows, of_columns = y.sums(k, 1), x.sums(k, 0)
    means = x.sums(of_rows, 0) / np.outer(x.size, y.size)
    rows, columns = k @ y.row, x.row @ k
    sides = (of_rows / y.size, of_columns / x.size[:, None], means)
    weight = np.outer(x.share / x.size, y.share / y.size)
    second = 4 * _second(weight, k, *sides, x, y, diagonal=True)
    return _Part(float(x.row @ rows), rows, columns, second)


def mixture_mmd(
    x: np.ndarray, y: np.ndarray, of_x: Strata, of_y: Strata, kernel: Kernel = polynomial
) -> tuple[float, Variance]:
    """MMD^2 of the mixtures for which `x [n, D]` and `y [m, D]`, sorted by class, stand.

    Unbiased where rows are independent draws within their classes; of one class each it is
    `kernel.squared_mmd`. Memory: one kernel matrix at a time.
    """
    xx, yy = _within(kernel(x, x), of_x), _within(kernel(y, y), of_y)
    xy = _across(kernel(x, y), of_x, of_y)
    # A row's contribution holds the chance of its partners too: pairs are counted twice in these.
    by_x = of_x.variance_of_sum(2 * (xx.rows - of_x.row * xy.rows))
    by_y = of_y.variance_of_sum(2 * (yy.rows - of_y.row * xy.columns))
    first_x, first_y = by_x - 2 * xx.second - xy.second, by_y - 2 * yy.second - xy.second
    variance = Variance(first_x, first_y, xx.second, yy.second, xy.second)
    return xx.value + yy.value - 2 * xy.value, variance


def stratified_mmd(
    x: Any, y: Any, label_x: Any, label_y: Any, share: Any, kernel: Kernel = polynomial
) -> Estimate:
    """MMD^2 of `x [n, D]` and `y [m, D]`, both as mixtures of classes in the shares `share [K]`.

    Its mean is zero for equal classes, whatever the numbers of images of each on either side.

    Args:
      label_x, label_y: `[n]` and `[m]`, classes 0 .. K - 1.
      share: of each class in the mixture, in any unit.

    A class of fewer than two images on a side is left out; where that leaves none, classes are
    disregarded.
    """
    x, y = feature_pair(x, y, least=2)
    label_x, label_y, share = np.asarray(label_x), np.asarray(label_y), np.asarray(share, float)
    size_x, size_y = (np.bincount(k, minlength=len(share)) for k in (label_x, label_y))
    kept = np.flatnonzero((size_x >= 2) & (size_y >= 2) & (share > 0))
    if not len(kept):
        return stratified_mmd(x, y, 0 * label_x, 0 * label_y, [1.0], kernel)
    sides = []
    for rows, label, size in ((x, label_x, size_x), (y, label_y, size_y)):
        order = np.argsort(label, kind="stable")
        order = order[np.isin(label[order], kept)]
        sides.append((rows[order], Strata(size[kept], share[kept] / share[kept].sum())))
    (x, of_x), (y, of_y) = sides
    value, variance = mixture_mmd(x, y, of_x, of_y, kernel)
    total, common = variance.total()
    return Estimate(float(value), float(np.sqrt(total)), float(np.sqrt(common)))


def subsets_error(
    x: Any,
    y: Any,
    found: KernelDistance,
    *,
    subset_size: int,
    subsets: int,
    seed: int,
    label: Any = None,
    looked_at: int = 10,
) -> float:
    """Standard error of the mean of `kernel.kernel_distance`, which took the same arguments.

    The subsets overlap, so their spread does not say it. What the whole sets' chance adds is
    scaled from within `looked_at` subsets; what the choice of subsets adds is the spread over
    their number.
    """
    x, y = feature_pair(x, y, least=2)
    size = min(subset_size, len(x), len(y))
    strata = np.zeros(len(x), int) if label is None else merged(label)
    chosen = random_subsets(len(x), len(y), size, min(subsets, looked_at), seed)
    parts = [_variance_of_rows(x[i], strata[i], y[j]) for i, j in chosen]
    mean = Variance(*np.mean(parts, axis=0).tolist())
    whole, _ = mean.total(len(x) / size, len(y) / size)
    chance = found.std**2 / max(subsets - 1, 1) if size < max(len(x), len(y)) else 0.0
    return float(np.sqrt(whole + chance))


def _variance_of_rows(x: np.ndarray, label: np.ndarray, y: np.ndarray) -> Variance:
    """The variance of the MMD^2 of two sets whose rows weigh alike."""
    label = merged(label)
    order, size = np.argsort(label, kind="stable"), np.bincount(label)
    if size.min() < 2:  # a single row of its kind: its class's spread cannot be told
        size = np.array([len(x)])
    one = Strata(np.array([len(y)]), np.ones(1))
    return mixture_mmd(x[order], y, Strata(size, size / len(x)), one)[1]
