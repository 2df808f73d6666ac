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

    With one seed, `se` is the metric's own error bar (None where it has none).
    """

    n: int
    mean: float
    se: float | None
    low: float | None
    high: float | None

    @property
    def half_width(self) -> float | None:
        return None if self.high is None else self.high - self.mean


@dataclass(frozen=True)
class Difference(Summary):
    """Mean difference from the baseline over the seeds that both have; `p` of a paired t-test."""

    p: float | None = None


def summarise(values: Mapping[int, float], std: float | None = None) -> Summary | None:
    """Seed -> value to a `Summary` with Student's t interval; None when there is no value.

    `std`: the metric's own standard deviation, which stands in for the spread over seeds when
    there is one seed only (then the interval is the normal one).
    """
    x = np.asarray(list(values.values()), np.float64)
    if not len(x):
        return None
    mean = float(x.mean())
    if len(x) == 1:
        wide = None if std is None else 1.959963984540054 * std
        low, high = (None, None) if wide is None else (mean - wide, mean + wide)
        return Summary(1, mean, std, low, high)
    se = float(x.std(ddof=1) / math.sqrt(len(x)))
    wide = float(stats.t.ppf(0.975, len(x) - 1)) * se
    return Summary(len(x), mean, se, mean - wide, mean + wide)


def paired(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    """`values - baseline` seed by seed; None without a common seed.

    Pairing removes what a seed does to both cells, so the interval is usually far narrower than
    the two cells' own.
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
    return Difference(summary.n, summary.mean, summary.se, summary.low, summary.high, p)
