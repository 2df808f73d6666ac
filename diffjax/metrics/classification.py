"""Numbers from a classifier's answers: accuracy, its interval, confusion, inception score."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from diffjax.keys import seed_words
from diffjax.metrics.clusters import clustered_error
from diffjax.metrics.rows import feature_rows
from diffjax.results import Interval


def wilson(successes: float, count: float, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a binomial share (Wilson 1927).

    Unlike value +- z std it stays inside [0, 1] and has width at 0 and at 1. An effective number
    of examples, and its share of successes, need not be whole.
    """
    if not 0 <= successes <= count or count == 0:
        raise ValueError(
            f"{successes} successes of {count}: need 0 <= successes <= count, count > 0"
        )
    z = float(special.ndtri(0.5 + confidence / 2))
    p = successes / count
    centre = (p + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(p * (1 - p) / count + (z / (2 * count)) ** 2)
    # At the ends the exact value is 0 or 1, which rounding would miss by a hair.
    low = 0.0 if successes == 0 else float(centre - half)
    return low, 1.0 if successes == count else float(centre + half)


def share(hits: Any, confidence: float = 0.95, *, clusters: Any = None) -> Interval:
    """The share of True in `hits [N] bool`, with its Wilson interval.

    `clusters [N]`, of any values, say which examples are no independent ones (draws of one text):
    standard error and interval are then those of a share over clusters, drawn at random
    (`_clustered`). Without them every example is its own.
    """
    hits = np.asarray(hits, bool)
    count, successes = hits.size, int(hits.sum())
    if clusters is not None and count:
        return _clustered(hits, np.asarray(clusters), confidence)
    low, high = wilson(successes, count, confidence)
    p = successes / count
    return Interval(p, float(np.sqrt(p * (1 - p) / count)), low, high, count)


def _clustered(hits: np.ndarray, clusters: np.ndarray, confidence: float) -> Interval:
    """The share with an error bar by clusters, at least the binomial one; and the Wilson interval
    of as many independent examples as would have it, with Student's quantile of the clusters (Korn
    and Graubard 1998).

    To the interval one cluster more is added whose examples are all alike: few clusters, or few
    that differ, may look more alike than they are. Where all examples agree nothing tells how alike
    those of a cluster are, and each counts as one example.
    """
    p, count = float(hits.mean()), len(hits)
    error = clustered_error(hits, clusters)
    variance = max(error.std**2, p * (1 - p) / count)
    careful = (error.clusters * variance + error.whole**2) / (error.clusters + 1)
    tail = 0.5 + confidence / 2
    student = special.stdtrit(max(error.clusters - 1, 1), tail)
    effective = float(error.clusters)
    if careful > 0:
        effective = p * (1 - p) / careful * float(special.ndtri(tail) / student) ** 2
    low, high = wilson(p * effective, effective, confidence)
    return Interval(p, float(np.sqrt(variance)), low, high, count)


def class_accuracy(labels: Any, logits: Any) -> Interval:
    """The share of examples whose largest of `logits [N, K]` is at `labels [N]`.

    On real data that is accuracy; on class-conditional samples, how many are what was asked for.
    """
    labels, logits = np.asarray(labels), np.asarray(logits)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"labels {list(labels.shape)} and logits {list(logits.shape)} do not fit")
    return share(logits.argmax(axis=1) == labels)


def confusion_matrix(labels: Any, predictions: Any, classes: int) -> np.ndarray:
    """Counts `[classes, classes] int64`: row = label, column = prediction."""
    labels, predictions = np.asarray(labels, np.int64), np.asarray(predictions, np.int64)
    if labels.shape != predictions.shape:
        raise ValueError(f"{labels.size} labels but {predictions.size} predictions")
    for name, values in (("label", labels), ("prediction", predictions)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(
                f"a {name} lies outside 0 .. {classes - 1}: {values.min()} .. {values.max()}"
            )
    return np.bincount(labels * classes + predictions, minlength=classes**2).reshape(
        classes, classes
    )


def cross_entropy(labels: Any, logits: Any) -> np.ndarray:
    """`-log softmax(logits)[label]` in nats, `[N] float64`."""
    log_p = special.log_softmax(np.asarray(logits, np.float64), axis=1)
    return -np.take_along_axis(log_p, np.asarray(labels, np.int64)[:, None], axis=1)[:, 0]


def inception_score(logits: Any, *, splits: int = 10, seed: int | None) -> tuple[float, float]:
    """`exp(E KL(p(y|x) | p(y)))` over `splits` parts: mean and deviation over the parts.

    Salimans et al. 2016: from 1 (all alike) to K (each certain, all classes equally often). `seed`
    shuffles as torch-fidelity's code does for the same seed; None keeps the order, as
    guided-diffusion's does. `logits [N, K]`.

    Raises:
      ValueError: more parts than examples, or logits that are not finite.
    """
    log_p = special.log_softmax(feature_rows(logits, "logits"), axis=1)
    n = len(log_p)
    if not 1 <= splits <= n:
        raise ValueError(f"splits must lie in 1 .. {n} (the examples), not {splits}")
    if seed is not None:
        log_p = log_p[np.random.RandomState(seed_words(seed)).permutation(n)]
    scores = []
    for i in range(splits):
        part = log_p[i * n // splits : (i + 1) * n // splits]
        log_marginal = special.logsumexp(part, axis=0) - np.log(len(part))
        scores.append(np.exp((np.exp(part) * (part - log_marginal)).sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))
