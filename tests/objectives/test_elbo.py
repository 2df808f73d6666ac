"""Bounds of latent-variable models: closed forms, free bits, importance weights."""

import jax
import numpy as np
import pytest
from scipy import stats

from diffjax.objectives import elbo

effective_samples, gaussian_kl, importance_bound, kl_to_prior, log_normal, reparameterise = map(
    jax.jit,
    (
        *(elbo.effective_samples, elbo.gaussian_kl, elbo.importance_bound),
        *(elbo.kl_to_prior, elbo.log_normal, elbo.reparameterise),
    ),
)
free_bits = jax.jit(elbo.free_bits, static_argnums=(1, 2, 3))

RNG = np.random.default_rng(0)
MEAN, LOG_VAR = (RNG.standard_normal((5, 6)).astype(np.float32) for _ in range(2))


def test_kl_is_the_expected_log_ratio():
    """KL(q || p) = E_q[log q - log p], by quadrature in each dimension."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    std = np.exp(0.5 * LOG_VAR.astype(np.float64))[..., None]
    z = MEAN[..., None] + std * nodes
    ratio = stats.norm.logpdf(z, MEAN[..., None], std) - stats.norm.logpdf(z)
    expected = (ratio * weights).sum(-1) / weights.sum()
    np.testing.assert_allclose(kl_to_prior(MEAN, LOG_VAR), expected, rtol=1e-5, atol=1e-6)
    zero = np.zeros((5, 6), np.float32)
    np.testing.assert_array_equal(kl_to_prior(zero, zero), zero)
    np.testing.assert_allclose(gaussian_kl(MEAN, LOG_VAR, MEAN, LOG_VAR), zero, atol=1e-7)


def test_density_is_that_of_independent_gaussians():
    z = RNG.standard_normal((5, 6)).astype(np.float32)
    expected = stats.norm.logpdf(z, MEAN, np.exp(0.5 * LOG_VAR)).sum(-1)
    np.testing.assert_allclose(log_normal(z, MEAN, LOG_VAR), expected, rtol=1e-5)


def test_noise_becomes_a_sample():
    noise = RNG.standard_normal((40_000, 6)).astype(np.float32)
    z = np.asarray(reparameterise(MEAN[0], LOG_VAR[0], noise))
    std = np.exp(0.5 * LOG_VAR[0])
    np.testing.assert_allclose(z.mean(0), MEAN[0], atol=5 * std.max() / 200)
    np.testing.assert_allclose(z.std(0), std, rtol=0.03)


KL = np.array([[0.2, 0.9, 3.0, 0.1], [0.6, 0.3, 1.0, 0.1]], np.float32)


def test_no_free_bits_are_the_sum():
    for over in ("batch", "example"):
        np.testing.assert_allclose(free_bits(KL, 0.0, 0, over), KL.sum(1), rtol=1e-6)
        np.testing.assert_allclose(free_bits(KL, 0.0, 2, over), KL.sum(1), rtol=1e-6)


def test_the_mean_over_the_batch_is_the_papers_sum_of_maxima():
    for groups, parts in ((0, KL), (2, KL.reshape(2, 2, 2).sum(-1)), (1, KL.sum(1)[:, None])):
        expected = np.maximum(0.5, parts.mean(0)).sum()
        np.testing.assert_allclose(free_bits(KL, 0.5, groups).mean(), expected, rtol=1e-6)


def test_each_example_by_itself():
    expected = np.maximum(0.5, KL).sum(1)
    np.testing.assert_allclose(free_bits(KL, 0.5, 0, "example"), expected, rtol=1e-6)


def test_below_its_level_a_group_has_no_gradient_and_above_it_all_of_it():
    def slope(kl, groups, over):
        total = lambda k: free_bits(k, 0.5, groups, over).sum()  # noqa: E731
        return np.asarray(jax.jit(jax.grad(total))(kl))

    np.testing.assert_array_equal(slope(KL, 0, "batch"), [[0, 1, 1, 0]] * 2)
    np.testing.assert_array_equal(slope(KL, 0, "example"), [[0, 1, 1, 0], [1, 0, 1, 0]])
    np.testing.assert_array_equal(slope(0.3 * KL, 2, "batch"), [[0, 0, 1, 1]] * 2)
    np.testing.assert_array_equal(slope(KL, 1, "batch"), np.ones((2, 4)))


def test_groups_must_divide():
    with pytest.raises(ValueError, match="4 latent dimensions do not divide into 3 groups"):
        free_bits(KL, 0.5, 3)


def test_importance_bound_is_the_log_of_the_mean_weight():
    log_w = 3 * RNG.standard_normal((7, 5)).astype(np.float32)
    expected = np.log(np.exp(log_w.astype(np.float64)).mean(0))
    np.testing.assert_allclose(importance_bound(log_w), expected, rtol=1e-5)
    np.testing.assert_allclose(importance_bound(log_w - 500), expected - 500, rtol=1e-5)
    np.testing.assert_allclose(importance_bound(log_w[:1]), log_w[0], rtol=1e-6)


def test_effective_samples_lie_between_one_and_all():
    even, one = np.zeros((8, 3), np.float32), np.full((8, 3), -80, np.float32)
    one[2] = 0
    np.testing.assert_allclose(effective_samples(even), 8, rtol=1e-5)
    np.testing.assert_allclose(effective_samples(one), 1, rtol=1e-5)
    half = np.where(np.arange(8)[:, None] < 4, 0.0, -80.0).astype(np.float32)
    np.testing.assert_allclose(effective_samples(half + 300), 4, rtol=1e-4)
