"""CLIPScore: the fit of images and their texts, by embeddings of both."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffjax.metrics.clusters import clustered_error
from diffjax.metrics.kernel import unit_rows
from diffjax.results import Interval


def clip_score(image: Any, text: Any, *, scale: float = 100.0, clusters: Any = None) -> Interval:
    """CLIPScore: the mean of `scale * max(cos(image, text), 0)` over pairs of rows `[N, E]`.

    Hessel et al. 2021, equation 1. The paper's scale is 2.5; 100 is what text-to-image papers
    print. `clusters [N]` are equal where pairs share a text: the standard error is then over texts.

    Raises:
      ValueError: different numbers of images and texts, or a row that is zero or not finite.
    """
    if np.shape(image) != np.shape(text):
        raise ValueError(f"{np.shape(image)} images and {np.shape(text)} texts do not pair up")
    each = scale * np.maximum((unit_rows(image) * unit_rows(text)).sum(axis=1), 0.0)
    if clusters is not None:
        std = clustered_error(each, clusters).std
    else:
        std = float(each.std(ddof=1) / np.sqrt(len(each))) if len(each) > 1 else 0.0
    return Interval(float(each.mean()), std, count=len(each))
