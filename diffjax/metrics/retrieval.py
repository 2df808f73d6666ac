"""Retrieval: where the first relevant candidate stands, and recall at k."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffjax.metrics.classification import share
from diffjax.results import Interval


def first_relevant_ranks(scores: Any, queries: Any, candidates: Any) -> np.ndarray:
    """The count of irrelevant candidates before the best relevant one, `[N] int64`, 0 is first.

    Args:
      scores: `[N, M]`, larger is better.
      queries, candidates: `[N]` and `[M]` keys; a candidate is relevant to the queries of its own
        key, so images that share a caption are all right answers to it.

    A tie counts against, and so does NaN: constant scores must not look perfect.

    Raises:
      ValueError: shapes that do not fit, or a query without any relevant candidate.
    """
    scores, queries, candidates = np.asarray(scores), np.asarray(queries), np.asarray(candidates)
    if scores.shape != (len(queries), len(candidates)):
        raise ValueError(
            f"scores {list(scores.shape)} do not fit {len(queries)} queries and "
            f"{len(candidates)} candidates"
        )
    relevant = queries[:, None] == candidates[None, :]
    lonely = np.flatnonzero(~relevant.any(axis=1))
    if lonely.size:
        raise ValueError(f"{lonely.size} queries have no relevant candidate, the first {lonely[0]}")
    best = np.where(relevant, scores, -np.inf).max(axis=1, keepdims=True)
    return (~(scores < best) & ~relevant).sum(axis=1)


def recall_at(ranks: Any, k: int, clusters: Any = None) -> Interval:
    """The share of queries with a relevant candidate among their first `k`; `clusters` as in
    `share`, of queries that are not independent."""
    if k < 1:
        raise ValueError(f"recall is at k >= 1, not {k}")
    return share(np.asarray(ranks) < k, clusters=clusters)
