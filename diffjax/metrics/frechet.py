"""Frechet distance between Gaussians fitted to features, in float64, with error bars.

Heusel et al. 2017 (FID):  d^2 = |m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1^1/2 S2 S1^1/2)^1/2).
Chong & Forsyth 2020: the estimate is biased by a term close to linear in 1/N.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg

from diffjax.metrics.rows import feature_rows


class Moments(NamedTuple):
    """`count` examples (0 where a file does not say), `mean [D]`, `cov [D, D]` (divided by
    count - 1), both float64."""

    count: int
    mean: np.ndarray
    cov: np.ndarray


class Extrapolation(NamedTuple):
    """A distance read off at infinite N: `value`, standard error `std`, `slope` per 1/N."""

    value: float
    std: float
    slope: float


def moments(features: Any) -> Moments:
    """Count, mean and covariance of `features [N, D]`, N >= 1.

    Raises:
      ValueError: where the array is not [N, D], is empty, or holds a NaN or an infinity.
    """
    x = feature_rows(features)
    mean = x.mean(axis=0)
    centred = x - mean
    return Moments(len(x), mean, centred.T @ centred / max(len(x) - 1, 1))


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of two sets together, from each one's own (Chan et al. 1983, eq. 2.1).

    Only the difference of the means enters, never raw second moments, so features far from the
    origin lose no digits.

    Raises:
      ValueError: moments of an unknown count.
    """
    if not (a.count and b.count):
        raise ValueError("moments of an unknown number of examples cannot be merged")
    n = a.count + b.count
    d = b.mean - a.mean
    scatter = a.cov * (a.count - 1) + b.cov * (b.count - 1)
    scatter = scatter + np.outer(d, d) * (a.count * b.count / n)
    return Moments(n, a.mean + d * (b.count / n), scatter / (n - 1))


def accumulate(parts: Iterable[Moments | np.ndarray]) -> Moments:
    """The moments of many batches `[n, D]`, or of other processes' `Moments`, in one pass."""
    total: Moments | None = None
    for part in parts:
        one = part if isinstance(part, Moments) else moments(part)
        total = one if total is None else merge(total, one)
    if total is None:
        raise ValueError("no features: the moments of nothing are undefined; check the data")
    return total


def _factor(cov: np.ndarray) -> np.ndarray:
    """`F [D, r]` with `F F^T = cov`, r the numerical rank."""
    values, vectors = linalg.eigh((cov + cov.T) / 2)
    floor = max(float(values[-1]), 0.0) * len(values) * np.finfo(np.float64).eps
    kept = values > floor
    return vectors[:, kept] * np.sqrt(values[kept])


def frechet_distance(a: Moments, b: Moments) -> float:
    """The squared Frechet (2-Wasserstein) distance of two Gaussians, >= 0; FID's number."""
    return distance_to(b)(a)


def distance_to(reference: Moments) -> Callable[[Moments], float]:
    """`frechet_distance` to a fixed reference, whose covariance is then factored only once.

    The eigenvalues of S1^1/2 S2 S1^1/2 are the squared singular values of F1^T F2 for any factors
    F F^T = S, and tr(sqrt) is their sum: the same number as an `eigvalsh` of the product, but a
    null direction costs a rounding error of 1e-16 and not its square root, 1e-8, and nothing can
    become complex. Singular covariances (N < D, constant features) are therefore exact.
    """
    b, fb = reference, _factor(reference.cov)

    def distance(a: Moments) -> float:
        if a.mean.shape != b.mean.shape:
            raise ValueError(f"feature widths differ: {a.mean.shape[0]} against {b.mean.shape[0]}")
        if 1 in (a.count, b.count):
            raise ValueError("a covariance needs 2 examples or more, not 1")
        fa, fidelity = _factor(a.cov), 0.0
        if fa.shape[1] and fb.shape[1]:
            fidelity = float(np.linalg.svd(fa.T @ fb, compute_uv=False).sum())
        square = np.square(a.mean - b.mean).sum() + np.trace(a.cov) + np.trace(b.cov) - 2 * fidelity
        return max(float(square), 0.0)

    return distance


def few_images(width: int, **counts: int) -> str:
    """Those of `counts` that are no more than features are wide: "samples 200, of 2048 features".

    Their covariance is singular. "" where all are more, or unknown (0).
    """
    few = [f"{name} {count}" for name, count in counts.items() if 0 < count <= width]
    return f"{', '.join(few)}, of {width} features" if few else ""


def jackknife_kept(
    n: int, groups: int, seed: int = 0, strata: Any = None, clusters: Any = None
) -> np.ndarray:
    """The examples that are left when each group is deleted: `[groups, n] bool`.

    Groups are drawn at random, evenly within each stratum.

    Class-balanced samples are a stratified draw: groups that keep the balance (`strata [n]`, the
    labels) leave the variance between classes out of the error bar, where it does not belong.
    Draws of one text are no independent ones: those of one of `clusters [n]` leave together, and
    groups are of whole clusters; then without strata.
    """
    if clusters is not None:
        place = np.unique(np.asarray(clusters), return_inverse=True)[1]
        return jackknife_kept(int(place.max()) + 1, groups, seed)[:, place]
    if not 2 <= groups <= n:
        raise ValueError(f"jackknife groups must lie in 2 .. {n} (the examples), not {groups}")
    shuffled = np.random.default_rng(seed).permutation(n)
    order = np.lexsort((shuffled, np.zeros(n) if strata is None else np.asarray(strata)))
    group = np.empty(n, np.int64)
    group[order] = np.arange(n) % groups
    return group != np.arange(groups)[:, None]


def jackknife_std(deleted: Any) -> np.ndarray:
    """Standard error from the values `deleted [G, ...]` that leave out one group each.

    sqrt((G - 1) / G * sum_g (v_g - mean v)^2); its own relative error is about 1 / sqrt(2 G).
    """
    v = np.asarray(deleted, np.float64)
    return np.sqrt(np.square(v - v.mean(axis=0)).sum(axis=0) * (len(v) - 1) / len(v))


def jackknife(
    values_fn: Callable[..., Any],
    features: Any,
    groups: int = 20,
    *,
    seed: int = 0,
    strata: Any = None,
    clusters: Any = None,
) -> np.ndarray:
    """Standard error(s) of `values_fn(features)` by the delete-a-group jackknife.

    Args:
      values_fn: a float, or an array of them, from a subset of the rows.
      features: an array `[N, ...]`, or a tuple of them, then passed as several arguments.
      groups: how many, each left out once.
      seed: of the random assignment of rows to groups.
      strata, clusters: `[N]`, see `jackknife_kept`.

    Returns:
      `jackknife_std`, the shape of `values_fn`'s result.
    """
    arrays = features if isinstance(features, tuple) else (features,)
    kept = jackknife_kept(len(arrays[0]), groups, seed, strata, clusters)
    return jackknife_std([values_fn(*(x[rows] for x in arrays)) for rows in kept])


def frechet_infinity(
    features: Any, reference: Moments, *, points: int = 15, smallest: int | None = None, seed: int
) -> Extrapolation:
    """The distance extrapolated to N = infinity (Chong & Forsyth 2020, section 4).

    A line in 1/N is fitted to the distances of random subsets of `points` sizes between
    `smallest` and N; the paper's sizes run from N / 10. The intercept frees two models of the
    bias that favours whichever was measured with more images.
    """
    x = feature_rows(features)
    n = len(x)
    low = max(n // 10, 2) if smallest is None else smallest
    if not (2 <= low < n and points >= 3):
        raise ValueError(
            f"sizes {low} .. {n} in {points} points: need 2 <= smallest < N, points > 2"
        )
    rng = np.random.default_rng(seed)
    sizes = np.unique(np.linspace(low, n, points).astype(int))
    distance = distance_to(reference)
    d = [distance(moments(x[rng.permutation(n)[:m]])) for m in sizes]
    design = np.stack([np.ones(len(sizes)), 1.0 / sizes], axis=1)
    (value, slope), *_ = np.linalg.lstsq(design, np.asarray(d), rcond=None)
    residual = np.asarray(d) - design @ np.array([value, slope])
    variance = float(residual @ residual) / max(len(sizes) - 2, 1)
    std = float(np.sqrt(variance * np.linalg.inv(design.T @ design)[0, 0]))
    return Extrapolation(float(value), std, float(slope))
