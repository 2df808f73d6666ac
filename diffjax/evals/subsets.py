"""Disjoint subsets of two labelled sets that match each other in size and in class counts."""

from __future__ import annotations

import numpy as np


def shared_counts(a: np.ndarray, b: np.ndarray, classes: int) -> np.ndarray:
    """`[classes]`: of each class as many examples as both label arrays have."""
    return np.minimum(np.bincount(a, minlength=classes), np.bincount(b, minlength=classes))


def disjoint_subsets(labels: np.ndarray, counts: np.ndarray, seed: int) -> list[np.ndarray]:
    """All the disjoint subsets (index arrays) of `labels [N]` with `counts [classes]` examples.

    A distance of N images is biased by about 1 / N, so two sets are compared at equal N and with
    equal classes; every disjoint subset that the larger set yields is used, and averaged over.
    """
    rng = np.random.default_rng(seed)
    members = [rng.permutation(np.flatnonzero(labels == k)) for k in range(len(counts))]
    repeats = min((len(m) // n for m, n in zip(members, counts, strict=True) if n), default=0)
    return [
        np.sort(
            np.concatenate([m[r * n : (r + 1) * n] for m, n in zip(members, counts, strict=True)])
        )
        for r in range(repeats)
    ]
