"""Kernel distances of sets drawn class by class: their zero is zero, and their error bars cover."""

import numpy as np
import pytest
from scipy import stats

from diffjax.evals.fidelity import Measured
from diffjax.evals.generation import over_seeds
from diffjax.metrics.kernel import kernel_distance, polynomial, squared_mmd
from diffjax.metrics.stratified import stratified_mmd, subsets_error

REPEATS = 200
# A share of REPEATS that an interval of 95 % falls short of once in 10,000 times.
LEAST = stats.binom.ppf(1e-4, REPEATS, 0.95) / REPEATS


def linear(x, y):
    return x @ y.T


def mixture(label, shift=0.0, *, rng, apart=1.5, dim=6):
    """Rows of Gaussian classes whose centres lie `apart`, all of them shifted."""
    centres = np.random.default_rng(1).normal(size=(64, dim)) * apart
    return centres[label] + shift + rng.normal(size=(len(label), dim))


def balanced(n, classes=10):
    return np.arange(n) % classes


def uneven(n, rng, classes=10):
    share = np.arange(1, classes + 1) / (classes * (classes + 1) / 2)
    return rng.choice(classes, n, p=share)


def repeated(of_x, of_y, shift=0.0, kernel=polynomial):
    """Estimates of REPEATS pairs of sets, and the values that disregard how they were drawn."""
    rng = np.random.default_rng(0)
    found, plain = [], []
    for _ in range(REPEATS):
        a, b = of_x(rng), of_y(rng)
        x, y = mixture(a, shift, rng=rng), mixture(b, rng=rng)
        found.append(stratified_mmd(x, y, a, b, np.bincount(b, minlength=10), kernel))
        plain.append(squared_mmd(x, y, kernel))
    return np.array([e.value for e in found]), np.array([e.std for e in found]), np.array(plain)


SETS = {
    "balanced": (lambda rng: balanced(60), lambda rng: balanced(60)),
    "as the data": (lambda rng: balanced(50), lambda rng: uneven(90, rng)),
    "two of each": (lambda rng: balanced(40, 20), lambda rng: balanced(60, 20)),
    "one class": (lambda rng: balanced(60, 1), lambda rng: balanced(40, 1)),
}


@pytest.mark.parametrize("sets", SETS)
def test_equal_classes_are_at_zero_and_the_bar_covers_it(sets):
    values, stds, plain = repeated(*SETS[sets])
    error = values.std(ddof=1) / np.sqrt(REPEATS)
    assert abs(values.mean()) < 4 * error
    if sets != "one class":
        assert abs(plain.mean()) > 5 * error  # what is mended: the plain distance is not at zero
    assert (np.abs(values) <= 1.96 * stds).mean() >= LEAST
    assert stds.mean() < 2 * values.std(ddof=1)  # a bar that covers by its width says nothing


@pytest.mark.parametrize("sets", ["balanced", "as the data", "one class"])
def test_a_distance_that_is_known_is_covered(sets):
    """By the linear kernel: the squared distance of the means."""
    values, stds, _ = repeated(*SETS[sets], shift=0.4, kernel=linear)
    truth = 6 * 0.4**2
    assert abs(values.mean() - truth) < 4 * values.std(ddof=1) / np.sqrt(REPEATS)
    assert (np.abs(values - truth) <= 1.96 * stds).mean() >= LEAST
    assert 0.8 < stds.mean() / values.std(ddof=1) < 1.3


def test_equals_the_sum_over_pairs():
    rng = np.random.default_rng(3)
    a, b = np.array([0, 0, 0, 1, 1, 2, 2]), np.array([2, 1, 0, 2, 1, 0, 1, 2])
    x, y = mixture(a, rng=rng), mixture(b, rng=rng)
    share = np.array([0.2, 0.5, 0.3])

    def within(z, label):
        total = 0.0
        for k in range(3):
            for m in range(3):
                pairs = [
                    polynomial(z[i : i + 1], z[j : j + 1])[0, 0]
                    for i in np.flatnonzero(label == k)
                    for j in np.flatnonzero(label == m)
                    if i != j
                ]
                total += share[k] * share[m] * np.mean(pairs)
        return total

    across = sum(
        share[k] * share[m] * polynomial(x[a == k], y[b == m]).mean()
        for k in range(3)
        for m in range(3)
    )
    expected = within(x, a) + within(y, b) - 2 * across
    assert stratified_mmd(x, y, a, b, 10 * share).value == pytest.approx(expected, rel=1e-10)
    one = stratified_mmd(x, y, 0 * a, 0 * b, [1.0]).value
    assert one == pytest.approx(squared_mmd(x, y), rel=1e-10)


def test_classes_that_tell_nothing_are_left_out():
    rng = np.random.default_rng(4)
    a, b = np.array([0, 0, 0, 1, 1, 2, 3, 3]), np.array([0, 0, 1, 1, 1, 2, 2, 0])
    x, y = mixture(a, rng=rng), mixture(b, rng=rng)
    some, other = a < 2, b < 2
    expected = stratified_mmd(x[some], y[other], a[some], b[other], [3, 3])
    assert stratified_mmd(x, y, a, b, [3, 3, 2, 0]) == pytest.approx(expected)
    alone = stratified_mmd(x, y, np.arange(8), np.arange(8), np.ones(8))
    assert alone.value == pytest.approx(squared_mmd(x, y))


@pytest.mark.parametrize("size", [10, pytest.param(30, marks=pytest.mark.heavy), 80])
def test_kid_of_balanced_samples_is_at_zero_in_blocks_of_any_size(size):
    """Ten rows of forty classes, or all of two rows of each; the reference is drawn at random."""
    rng, repeats = np.random.default_rng(5), 60
    found, plain = [], []
    for seed in range(repeats):
        label = balanced(80, 40)
        x, y = mixture(label, rng=rng), mixture(rng.integers(40, size=120), rng=rng)
        how = dict(subset_size=size, subsets=6, seed=seed)
        got = kernel_distance(x, y, label=label, **how)
        found.append((got.mean, subsets_error(x, y, got, label=label, **how)))
        plain.append(kernel_distance(x, y, **how).mean)
    values, stds = np.array(found).T
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean()) < 4 * error and np.mean(plain) < values.mean() - error
    assert (np.abs(values) <= 1.96 * stds).mean() >= stats.binom.ppf(1e-4, repeats, 0.95) / repeats
    assert stds.mean() < 2 * values.std(ddof=1)


def test_the_bar_of_kid_is_no_spread_of_its_subsets():
    """All rows in every subset: no spread at all, and still a chance."""
    x, y = np.random.default_rng(6).normal(size=(2, 50, 4))
    how = dict(subset_size=50, subsets=5, seed=0)
    got = kernel_distance(x, y, **how)
    assert got.std < 1e-12 < 1e-4 < subsets_error(x, y, got, **how)
    # Of samples drawn a class at a time but for one row each: classes are disregarded there.
    assert subsets_error(x, y, got, label=np.arange(50), **how) > 1e-4


def test_seeds_share_the_reference():
    """The mean over seeds is as sure as its bar says, though all meet the same real images."""
    rng, means, stds, naive = np.random.default_rng(7), [], [], []
    label, share = balanced(40), np.ones(10)
    for _ in range(REPEATS):
        y = mixture(label, rng=rng)
        each = []
        for _ in range(4):
            x = mixture(label, 0.5, rng=rng)
            got = stratified_mmd(x, y, label, label, share, linear)
            each.append(Measured(got.value, got.std, got.common))
        pooled = over_seeds(each)
        means.append(pooled.value)
        stds.append(pooled.std)
        naive.append(np.linalg.norm([m.std for m in each]) / 4)
    spread = np.std(means, ddof=1)
    assert 0.8 < np.mean(stds) / spread < 1.25
    assert np.mean(naive) < 0.75 * spread
