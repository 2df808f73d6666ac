"""Features, one row an example, checked before distances compare them."""

from __future__ import annotations

from typing import Any

import numpy as np


def feature_rows(features: Any, what: str = "features") -> np.ndarray:
    """`features [N, D]`, N >= 1, as float64.

    Raises:
      ValueError: where the array is not [N, D], is empty, or holds a NaN or an infinity.
    """
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) == 0:
        raise ValueError(f"{what} must be [N, D] with N >= 1, not {list(x.shape)}")
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{what}: {int((~finite).sum())} of {len(x)} rows are not finite (first: row "
            f"{int(np.argmin(finite))}); look at the images the extractor was given"
        )
    return x


def feature_pair(x: Any, y: Any, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets `[n, D]` and `[m, D]` of at least `least` rows each, as float64.

    Raises:
      ValueError: see `feature_rows`; or widths differ, or there are fewer rows.
    """
    x, y = feature_rows(x), feature_rows(y)
    if x.shape[1] != y.shape[1] or min(len(x), len(y)) < least:
        raise ValueError(
            f"two sets [n, D] and [m, D], n and m >= {least}, are needed, not {list(x.shape)} and "
            f"{list(y.shape)}"
        )
    return x, y
