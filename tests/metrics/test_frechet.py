"""Laws of the Frechet distance, its moments and its error bars."""

import numpy as np
import pytest
from scipy import linalg

from diffjax.metrics import frechet
from diffjax.metrics.frechet import Moments, frechet_distance, moments


def gaussian(rng, dim, count=1000):
    a = rng.normal(size=(dim, dim))
    return Moments(count, rng.normal(size=dim), a @ a.T / dim)


def test_closed_form_of_commuting_gaussians():
    """Diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2."""
    rng = np.random.default_rng(0)
    s1, s2, m1, m2 = rng.uniform(0.1, 3, (4, 12))
    got = frechet_distance(Moments(9, m1, np.diag(s1**2)), Moments(9, m2, np.diag(s2**2)))
    assert got == pytest.approx(np.sum((m1 - m2) ** 2) + np.sum((s1 - s2) ** 2), rel=1e-12)


def test_equals_matrix_square_root_for_general_covariances():
    """Against scipy's general matrix square root, an independent route."""
    rng = np.random.default_rng(1)
    a, b = gaussian(rng, 10), gaussian(rng, 10)
    root = linalg.sqrtm(linalg.sqrtm(a.cov) @ b.cov @ linalg.sqrtm(a.cov))
    expected = np.sum((a.mean - b.mean) ** 2) + np.trace(a.cov + b.cov - 2 * np.real(root))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-7)


def test_symmetric_and_rotation_invariant():
    rng = np.random.default_rng(2)
    a, b = gaussian(rng, 16), gaussian(rng, 16)
    q, _ = np.linalg.qr(rng.normal(size=(16, 16)))
    turned = [Moments(m.count, q @ m.mean, q @ m.cov @ q.T) for m in (a, b)]
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)
    assert frechet_distance(*turned) == pytest.approx(frechet_distance(a, b), rel=1e-10)


@pytest.mark.parametrize("n, dim", [(500, 20), (10, 64), (2, 8)])
def test_identical_sets_are_at_distance_zero(n, dim):
    """Also where N < D makes the covariance singular."""
    m = moments(np.random.default_rng(3).normal(size=(n, dim)) * 40 + 7)
    assert 0 <= frechet_distance(m, m) < 1e-12 * np.trace(m.cov)


def test_constant_features_are_exact():
    """One constant column, then all: nothing is NaN and only the means remain."""
    x = np.random.default_rng(4).normal(size=(50, 3))
    x[:, 1] = 2.0
    shifted = x + np.array([0.0, 3.0, 0.0])
    assert frechet_distance(moments(x), moments(shifted)) == pytest.approx(9.0, rel=1e-10)
    flat = moments(np.full((5, 4), 1.0)), moments(np.full((7, 4), 3.0))
    assert frechet_distance(*flat) == pytest.approx(16.0)


def test_badly_scaled_features_stay_finite():
    x = np.random.default_rng(5).normal(size=(40, 30)) * np.logspace(-12, 6, 30)
    y = np.random.default_rng(6).normal(size=(40, 30)) * np.logspace(-12, 6, 30)
    assert np.isfinite(frechet_distance(moments(x), moments(y)))


@pytest.mark.parametrize("offset", [0.0, 1e7])
def test_merging_equals_one_pass(offset):
    """Any split, any order of merging, far from the origin too; cov is numpy's N - 1."""
    x = np.random.default_rng(7).normal(size=(203, 6)) + offset
    one = moments(x)
    np.testing.assert_allclose(one.cov, np.cov(x, rowvar=False), rtol=1e-7, atol=1e-9)
    parts = [x[:1], x[1:3], x[3:100], x[100:203]]
    for order in (parts, parts[::-1]):
        merged = frechet.accumulate(order)
        assert merged.count == 203
        np.testing.assert_allclose(merged.mean, one.mean, rtol=1e-12)
        np.testing.assert_allclose(merged.cov, one.cov, rtol=1e-7, atol=1e-7)
    nested = frechet.merge(frechet.accumulate(parts[:2]), frechet.accumulate(parts[2:]))
    np.testing.assert_allclose(nested.cov, one.cov, rtol=1e-7, atol=1e-7)


def test_errors_say_what_is_wrong():
    x = np.zeros((4, 2))
    x[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"1 of 4 rows are not finite \(first: row 2"):
        moments(x)
    with pytest.raises(ValueError, match="widths differ: 2 against 3"):
        frechet_distance(moments(np.zeros((4, 2))), moments(np.zeros((4, 3))))
    with pytest.raises(ValueError, match="2 examples or more"):
        frechet_distance(moments(np.zeros((1, 2))), moments(np.zeros((4, 2))))
    with pytest.raises(ValueError, match="no features"):
        frechet.accumulate([])


def test_jackknife_of_the_mean_is_the_standard_error():
    """With one example a group the jackknife of a mean is s / sqrt(N) exactly."""
    x = np.random.default_rng(8).normal(size=(40, 1))
    std = frechet.jackknife(lambda f: f.mean(), x, groups=40)
    assert std == pytest.approx(x.std(ddof=1) / np.sqrt(40), rel=1e-10)


def test_jackknife_matches_the_spread_of_repeated_draws():
    """The error bar of a distance predicts how it scatters when the draw is repeated."""
    rng = np.random.default_rng(9)
    reference = moments(rng.normal(size=(4000, 6)))
    values, bars = [], []
    for _ in range(60):
        x = 0.6 + 1.2 * rng.normal(size=(300, 6))
        values.append(frechet_distance(moments(x), reference))
        bars.append(frechet.jackknife(lambda f: frechet_distance(moments(f), reference), x, 15))
    assert np.mean(bars) == pytest.approx(np.std(values, ddof=1), rel=0.25)


def test_stratified_groups_leave_out_the_variance_between_classes():
    """Balanced draws of two far classes: the mean scatters by the variance within them only."""
    rng = np.random.default_rng(10)
    labels = np.arange(200) % 2
    x = 100.0 * labels + rng.normal(size=200)
    within = frechet.jackknife(np.mean, x, 20, strata=labels)
    assert within == pytest.approx(1 / np.sqrt(200), rel=0.5)
    assert frechet.jackknife(np.mean, x, 20) > 20 * within
    kept = frechet.jackknife_kept(200, 20, strata=labels)
    assert ((~kept)[:, labels == 0].sum(axis=1) == 5).all()
    assert ((~kept).sum(axis=0) == 1).all()


def test_infinity_removes_the_bias_of_small_samples():
    """Equal distributions: the plain distance is biased up, the extrapolated one is not."""
    rng = np.random.default_rng(11)
    exact = Moments(10**9, np.zeros(8), np.eye(8))
    plain, infinite = [], []
    for seed in range(20):
        x = rng.normal(size=(800, 8))
        plain.append(frechet_distance(moments(x), exact))
        infinite.append(frechet.frechet_infinity(x, exact, smallest=200, seed=seed).value)
    assert np.mean(plain) > 0.02
    assert abs(np.mean(infinite)) < 0.25 * np.mean(plain)
