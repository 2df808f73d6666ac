"""Principal components of rows: fitted in one pass, projected on, reconstructed from.

Of CLIP's image embeddings (Ramesh et al. 2022): an autoregressive prior predicts the first of them
(section 2.2), and pictures of ever more of them show what an embedding holds (section 3.3).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.metrics.frechet import Moments, accumulate

# Of products of coordinates, which a GPU would take in fewer digits.
_EXACT = jax.lax.Precision.HIGHEST


class PrincipalComponents(NamedTuple):
    """Attributes:
    mean: `[E]`, of the rows.
    components: `[E, E]`, a unit vector in each row, by decreasing variance of the rows along it.
      Of either sign the one whose largest element is positive.
    variance: `[E]`, the rows' along each component: the eigenvalues of their covariance.
    """

    mean: Any
    components: Any
    variance: Any


def fit(parts: Iterable[Moments | np.ndarray]) -> PrincipalComponents:
    """The principal components, float64, of rows that come in batches `[n, E]`, or by their
    moments.

    Raises:
      ValueError: no rows, or one that is not finite.
    """
    total = accumulate(parts)
    values, vectors = np.linalg.eigh(total.cov)
    # Of a positive semidefinite matrix: rounding makes the least slightly negative.
    variance, rows = np.maximum(values[::-1], 0.0), vectors.T[::-1]
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)
    return PrincipalComponents(total.mean, rows * np.where(largest < 0, -1.0, 1.0), variance)


def project(pca: PrincipalComponents, x: Any, k: int | None = None) -> Array:
    """Coordinates `[..., k] float32` of rows `x [..., E]` along the first `k` components (all)."""
    components = jnp.asarray(pca.components, jnp.float32)[:k]
    centred = jnp.asarray(x, jnp.float32) - jnp.asarray(pca.mean, jnp.float32)
    return jnp.matmul(centred, components.T, precision=_EXACT)


def reconstruct(pca: PrincipalComponents, coordinates: Any, k: int | None = None) -> Array:
    """Rows `[..., E] float32` of the first `k` of their coordinates `[..., n]` (by default all n
    that are given): along the other components they are at the mean."""
    given = jnp.asarray(coordinates, jnp.float32)[..., :k]
    components = jnp.asarray(pca.components, jnp.float32)[: given.shape[-1]]
    return jnp.matmul(given, components, precision=_EXACT) + jnp.asarray(pca.mean, jnp.float32)


def explained(variance: Any) -> np.ndarray:
    """Share of the variance that the first k + 1 components explain, `[E] float64`."""
    variance = np.asarray(variance, np.float64)
    return np.cumsum(variance) / max(variance.sum(), np.finfo(np.float64).tiny)


def components_for(variance: Any, share: float) -> int:
    """Number of components that explain at least `share` in (0, 1] of the variance."""
    shares = explained(variance)
    # All of them explain all of it, whatever the rounding of their sum.
    return int(min(np.searchsorted(shares, share) + 1, len(shares)))
