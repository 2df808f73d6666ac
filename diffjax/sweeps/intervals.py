"""Means over seeds with their uncertainty, and differences paired by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from diffjax.results import Interval


@dataclass(frozen=True)
class Difference(Interval):
    """Mean difference from the baseline over the seeds that both have; `p` of a paired t-test."""

    p: float | None = None


def summarise(
    values: Mapping[int, float], std: float | None = None, texts: int | None = None
) -> Interval | None:
    """The mean of seed -> value, with Student's t interval; None when there is no value.

    Args:
      std: the metric's own standard error for one seed, which stands in for the spread over seeds
        when there is one only (then the interval is the normal one).
      texts: of how many texts every seed's value is a mean, the same ones: seeds are then repeats
        that tell nothing of other texts, and `std`, over texts, bounds what more of them can tell.
    """
    x = np.asarray(list(values.values()), np.float64)
    if not len(x):
        return None
    mean = float(x.mean())
    if len(x) == 1:
        quantile = stats.norm.ppf(0.975) if texts is None else stats.t.ppf(0.975, max(texts - 1, 1))
        wide = None if std is None else float(quantile) * std
        low, high = (None, None) if wide is None else (mean - wide, mean + wide)
        return Interval(mean, std, low, high, 1)
    spread = float(x.var(ddof=1))
    by_seeds, freedom, by_texts = spread / len(x), float(len(x) - 1), 0.0
    if texts is not None and std is not None:
        # A seed's value varies by its texts and by its draws; the seeds differ by the draws alone.
        by_texts = max(std**2 - spread, 0.0)
    total = by_seeds + by_texts
    if texts is not None and by_texts > 0:  # Welch 1947, Satterthwaite 1946
        parts = by_seeds**2 / freedom + by_texts**2 / max(texts - 1, 1)
        freedom = total**2 / parts
    wide = float(stats.t.ppf(0.975, freedom)) * math.sqrt(total)
    return Interval(mean, math.sqrt(total), mean - wide, mean + wide, len(x))


def paired(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    """`values - baseline` seed by seed; None without a common seed.

    Pairing removes what a seed does to both cells, so the interval is usually far narrower than
    the two cells' own. Where seeds share their texts, it is a difference for these texts.
    """
    common = [seed for seed in values if seed in baseline]
    summary = summarise({seed: values[seed] - baseline[seed] for seed in common})
    if summary is None:
        return None
    p = None
    if summary.count > 1 and summary.std is not None:
        if summary.std > 0:
            p = float(2 * stats.t.sf(abs(summary.value) / summary.std, summary.count - 1))
        else:
            p = 1.0 if summary.value == 0 else 0.0
    return Difference(**vars(summary), p=p)
