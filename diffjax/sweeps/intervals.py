"""Means over seeds with their uncertainty, and differences paired by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Summary:
    """Mean of `n` seeds, its standard error, and the ends of its 95 % interval.

    With one seed, `se` is the metric's own error bar (None where it has none). `texts` is how many
    texts all seeds share, None where they share nothing.
    """

    n: int
    mean: float
    se: float | None
    low: float | None
    high: float | None
    texts: int | None = None

    @property
    def half_width(self) -> float | None:
        return None if self.high is None else self.high - self.mean


@dataclass(frozen=True)
class Difference(Summary):
    """Mean difference from the baseline over the seeds that both have; `p` of a paired t-test."""

    p: float | None = None


def summarise(
    values: Mapping[int, float], std: float | None = None, texts: int | None = None
) -> Summary | None:
    """Seed -> value to a `Summary` with Student's t interval; None when there is no value.

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
        return Summary(1, mean, std, low, high, texts)
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
    return Summary(len(x), mean, math.sqrt(total), mean - wide, mean + wide, texts)


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
    if summary.n > 1 and summary.se is not None:
        if summary.se > 0:
            p = float(2 * stats.t.sf(abs(summary.mean) / summary.se, summary.n - 1))
        else:
            p = 1.0 if summary.mean == 0 else 0.0
    return Difference(summary.n, summary.mean, summary.se, summary.low, summary.high, p=p)
