"""Laws of precision, recall, density and coverage."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from diffjax.metrics.precision_recall import (
    density_coverage,
    precision_recall,
    subset_manifolds,
)


def test_identical_sets_are_inside_each_other():
    x = np.random.default_rng(0).normal(size=(100, 5)) + 1e3
    assert precision_recall(x, x) == (1.0, 1.0)
    assert density_coverage(x, x).coverage == 1.0


def test_duplicates_have_radius_zero_and_still_hold_themselves():
    x = np.repeat(np.random.default_rng(1).normal(size=(10, 7)), 8, axis=0)
    assert precision_recall(x, x[::-1]) == (1.0, 1.0)
    assert density_coverage(x, x[::-1]).coverage == 1.0


def test_disjoint_sets_are_outside():
    x = np.random.default_rng(2).normal(size=(80, 4))
    assert precision_recall(x, x + 100) == (0.0, 0.0)
    assert density_coverage(x, x + 100) == (0.0, 0.0)


def test_dropped_mode_costs_recall_not_precision():
    """Real: two far clusters. Generated: the first alone."""
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(2, 400, 2)) + np.array([[[0.0, 0]], [[50.0, 0]]])
    got = precision_recall(np.concatenate([first, second]), first)
    assert got.precision == 1.0
    assert got.recall == pytest.approx(0.5)
    held = density_coverage(np.concatenate([first, second]), first + 1e-9)
    assert held.coverage == pytest.approx(0.5)


def test_invented_mode_costs_precision_not_recall():
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(2, 400, 2)) + np.array([[[0.0, 0]], [[50.0, 0]]])
    got = precision_recall(first, np.concatenate([first, second]))
    assert got == (pytest.approx(0.5), 1.0)
    half = density_coverage(first, np.concatenate([first, second])).density
    assert half == pytest.approx(density_coverage(first, first).density / 2)


def test_expectations_under_equal_distributions():
    """Density 1; coverage 1 - prod_{i<k} (n - 1 - i) / (2 n - 1 - i) (Naeem et al., lemma 2)."""
    rng = np.random.default_rng(5)
    n, k = 200, 5
    got = np.array([density_coverage(*rng.normal(size=(2, n, 3)), k=k) for _ in range(40)])
    i = np.arange(k)
    coverage = 1 - np.prod((n - 1 - i) / (2 * n - 1 - i))
    error = got.std(axis=0, ddof=1) / np.sqrt(len(got))
    assert abs(got[:, 0].mean() - 1.0) < 3.5 * error[0]
    assert abs(got[:, 1].mean() - coverage) < 3.5 * error[1]


def test_equals_the_definition_and_ignores_the_block_size():
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(41, 3)), rng.normal(size=(29, 3)) * 1.3
    radius = lambda a, k: np.sort(cdist(a, a), axis=1)[:, k]  # noqa: E731
    inside = cdist(y, x) <= radius(x, 3)
    precision = inside.any(axis=1).mean()
    recall = (cdist(x, y) <= radius(y, 3)).any(axis=1).mean()
    for rows in (7, 1000):
        assert precision_recall(x, y, rows=rows) == pytest.approx((precision, recall))
    expected = (inside.sum() / (3 * 29), inside.any(axis=0).mean())
    assert density_coverage(x, y, k=3, rows=5) == pytest.approx(expected)


def test_subsets_share_distances_and_change_nothing():
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(61, 3)), rng.normal(size=(50, 3)) * 1.2
    keep = rng.random((4, 50)) < 0.8
    expected = [(*precision_recall(x, y[r]), *density_coverage(x, y[r])) for r in keep]
    np.testing.assert_allclose(subset_manifolds(x, y, keep), expected, rtol=1e-12)


def test_errors_say_what_is_wrong():
    x = np.zeros((5, 2))
    with pytest.raises(ValueError, match=r"k must lie in 1 \.\. 4"):
        precision_recall(x, x, k=5)
    with pytest.raises(ValueError, match="not finite"):
        density_coverage(x + np.nan, np.ones((9, 2)), k=2)
