"""Shares and means of draws that belong together: error bars are over the clusters."""

import numpy as np
import pytest
from scipy import stats

from diffjax.metrics.alignment import clip_score
from diffjax.metrics.classification import share, wilson
from diffjax.metrics.clusters import clustered_error
from diffjax.metrics.frechet import jackknife, jackknife_kept
from diffjax.metrics.retrieval import recall_at

REPEATS = 400


def draws(rng, texts, each, value, alike):
    """Hits `[texts x each]`, right with a chance of the text's own (beta) of the mean `value`."""
    chance = np.full(texts, value)
    if alike == 1:
        chance = (rng.random(texts) < value).astype(float)
    elif alike:
        a = 1 / alike - 1
        chance = rng.beta(value * a, (1 - value) * a, texts)
    return (rng.random((texts, each)) < chance[:, None]).reshape(-1)


@pytest.mark.parametrize(
    ("texts", "each", "value", "alike"),
    [
        *((14, 14, 0.8, a) for a in (0.0, 0.4, 0.9, 1.0)),
        *((91, 2, 0.8, a) for a in (0.0, 0.5)),
        *((196, 3, 0.92, a) for a in (0.0, 0.5, 1.0)),
        *((14, 14, 0.95, a) for a in (0.4, 1.0)),
    ],
)
def test_the_interval_covers_the_share_over_texts(texts, each, value, alike):
    rng = np.random.default_rng(texts)
    cluster, found, spread, plain = np.repeat(np.arange(texts), each), [], [], 0
    for _ in range(REPEATS):
        hits = draws(rng, texts, each, value, alike)
        got = share(hits, clusters=cluster)
        found.append(got.low <= value <= got.high)
        spread.append((got.value, got.std))
        naive = share(hits)
        plain += naive.low <= value <= naive.high
        assert 0 <= got.low <= got.value <= got.high <= 1
    # Rare failures of few texts cost even a good interval some points: 93 %, at the least.
    assert np.mean(found) >= stats.binom.ppf(1e-3, REPEATS, 0.93) / REPEATS
    values, stds = np.array(spread).T
    assert 0.7 < np.sqrt(np.square(stds).mean()) / values.std() < 1.3
    if alike >= 0.4 and each > 2:
        assert plain / REPEATS < 0.9


def test_draws_of_their_own_are_independent():
    hits = np.random.default_rng(0).random(300) < 0.7
    got, plain = share(hits, clusters=np.arange(300)), share(hits)
    assert got.std == pytest.approx(plain.std, rel=0.01)
    assert (got.low, got.high) == pytest.approx((plain.low, plain.high), abs=0.002)


def test_repeating_a_text_tells_nothing_new():
    """Every draw ten times over, which nobody took: bar and interval stay."""
    hits = np.random.default_rng(1).random(80) < 0.6
    once = share(hits, clusters=np.arange(80))
    tenfold = share(np.repeat(hits, 10), clusters=np.repeat(np.arange(80), 10))
    assert tenfold.std == pytest.approx(once.std, rel=1e-6)
    assert (tenfold.low, tenfold.high) == pytest.approx((once.low, once.high), abs=0.002)


@pytest.mark.parametrize("value", [0, 1])
def test_where_all_agree_each_text_counts_once(value):
    got = share(np.full(196, value, bool), clusters=np.arange(196) % 14)
    assert (got.low, got.high) == pytest.approx(wilson(14 * value, 14))
    assert got.value == value and got.count == 196


@pytest.mark.parametrize("hits", [np.ones(50, bool), np.arange(50) < 20])
def test_one_text_tells_little_of_others(hits):
    got = share(hits, clusters=np.zeros(50))
    assert got.high - got.low > 0.7


def test_texts_of_unlike_numbers_of_draws():
    """Cochran's linearised error of a ratio, by hand: texts of 3, 1 and 2 draws."""
    each, cluster = np.array([1.0, 0, 1, 0, 1, 1]), np.array([7, 7, 7, 2, 5, 5])
    mean = each.mean()
    residual = np.array([2 - 3 * mean, 0 - mean, 2 - 2 * mean])
    expected = np.sqrt(3 / 2 * np.square(residual).sum()) / 6
    assert clustered_error(each, cluster).std == pytest.approx(expected)


def test_clip_score_and_recall_are_over_texts_too():
    rng = np.random.default_rng(2)
    text = np.repeat(rng.normal(size=(12, 5)), 15, axis=0)
    image = np.repeat(text[::15] + rng.normal(size=(12, 5)), 15, axis=0)
    cluster = np.repeat(np.arange(12), 15)
    plain, got = clip_score(image, text), clip_score(image, text, clusters=cluster)
    assert got.value == plain.value and 3.5 < got.std / plain.std < 4.5  # about sqrt(15)
    ranks = np.repeat(np.arange(12) % 3, 15)
    assert recall_at(ranks, 1, cluster).std > 3 * recall_at(ranks, 1).std


def test_groups_of_a_jackknife_are_of_whole_texts():
    cluster = np.random.default_rng(3).integers(9, size=100)
    kept = jackknife_kept(100, 4, clusters=cluster)
    for text in range(9):
        rows = kept[:, cluster == text]
        assert (rows.all(axis=1) | ~rows.any(axis=1)).all() and (~rows.all(axis=1)).sum() == 1
    alike = np.repeat(np.random.default_rng(4).normal(size=10), 20)
    std = jackknife(np.mean, alike, 10, clusters=np.repeat(np.arange(10), 20))
    assert std == pytest.approx(alike[::20].std(ddof=1) / np.sqrt(10))
