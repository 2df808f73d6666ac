"""Laws of the kernel distances."""

import numpy as np
import pytest

from diffjax.metrics import kernel
from diffjax.metrics.kernel import kernel_distance, polynomial, squared_mmd


def test_unbiased_on_equal_distributions():
    """Over independent pairs of draws the mean lies within three of its standard errors of 0."""
    rng = np.random.default_rng(0)
    draws = [squared_mmd(*rng.normal(size=(2, 60, 8))) for _ in range(200)]
    error = np.std(draws, ddof=1) / np.sqrt(len(draws))
    assert abs(np.mean(draws)) < 3 * error
    assert min(draws) < 0
    biased = [squared_mmd(*rng.normal(size=(2, 60, 8)), unbiased=False) for _ in range(20)]
    assert np.mean(biased) > 20 * error


def test_linear_kernel_is_the_distance_of_the_means():
    """V-statistic with k(x, y) = x . y: |mean x - mean y|^2, exactly."""
    x, y = np.random.default_rng(1).normal(size=(2, 30, 5))
    got = squared_mmd(x, y, lambda a, b: a @ b.T, unbiased=False)
    assert got == pytest.approx(np.square(x.mean(0) - y.mean(0)).sum(), rel=1e-10)


def test_equals_the_double_loop():
    x, y = np.random.default_rng(2).normal(size=(2, 7, 3))
    k = [[polynomial(a[None], b[None])[0, 0] for b in (*x, *y)] for a in (*x, *y)]
    k = np.array(k)
    off = ~np.eye(7, dtype=bool)
    expected = k[:7, :7][off].mean() + k[7:, 7:][off].mean() - 2 * k[:7, 7:].mean()
    assert squared_mmd(x, y) == pytest.approx(expected, rel=1e-10)


def test_blocks_do_not_change_the_sum():
    x, y = np.random.default_rng(3).normal(size=(2, 50, 4))
    whole, parts = kernel._sums(polynomial, x, y), kernel._sums(polynomial, x, y, rows=7)
    np.testing.assert_allclose(parts, whole, rtol=1e-12)


def test_grows_with_the_shift_and_depends_on_the_seed_alone():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(300, 6))
    near, far = (kernel_distance(x, x[::-1] + s, subset_size=100, seed=0) for s in (0.3, 1.0))
    assert 0 < near.mean < far.mean
    again = kernel_distance(x, x[::-1] + 1.0, subset_size=100, seed=0)
    other = kernel_distance(x, x[::-1] + 1.0, subset_size=100, seed=1)
    assert again == far != other


def test_rbf_of_far_points_and_of_itself():
    """Two single far clusters: k within is 1, across 0, so scale * 2; a set with itself: 0."""
    x, y = np.zeros((5, 3)), np.full((6, 3), 1e3)
    assert kernel.rbf_distance(x, y) == pytest.approx(2000.0)
    z = np.random.default_rng(5).normal(size=(20, 3))
    assert kernel.rbf_distance(z, z) == pytest.approx(0.0, abs=1e-9)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"\[4, 2\] and \[4, 3\]"):
        squared_mmd(np.zeros((4, 2)), np.zeros((4, 3)))
