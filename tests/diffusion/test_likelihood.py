"""The bound of an analytic model against its closed form; the flow's likelihood against the true
density."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from diffjax.diffusion.grids import make_grid
from diffjax.diffusion.levels import CLEAN, Level, take
from diffjax.diffusion.likelihood import (
    LOG2,
    bound_term,
    decoder_log_std,
    discretized_gaussian_log_likelihood,
    flow_log_likelihood,
    gaussian_kl,
    log_variance,
    variational_bound,
)
from diffjax.diffusion.process import diffuse
from diffjax.diffusion.sampling import Estimate
from diffjax.diffusion.schedules import EDM, VPSDE, ContinuousCosine, Cosine, Linear, RectifiedFlow
from diffjax.keys import per_row

LEVELS = 2**14  # bins so fine that mass is density times width


ROWS = jax.jit(per_row)


def keys_of(n, seed=0):
    return ROWS(jax.random.key(seed), np.arange(n))


def quantised(mixture, shape, seed=0):
    x = mixture.draw(int(np.prod(shape)), seed).reshape(shape)
    return (np.round((x + 1) / 2 * (LEVELS - 1)) / (LEVELS - 1) * 2 - 1).astype(np.float32)


# One Gaussian of the bound: variance 0.04, so that [-1, 1] holds it (5 deviations).
MEAN, VAR = 0.1, 0.04


def gaussian_estimate(z, level, to):
    gain = level.alpha * VAR / (level.alpha**2 * VAR + level.sigma**2)
    return Estimate(MEAN + gain * (z - level.alpha * MEAN))


def closed_form(grid, variance, decoder_std):
    """Expected terms of the bound in nats per dimension, float64, from first principles: q(z_s | z)
    and p(z_s | z) are both Gaussian, their means apart by c (x - x_hat), E[(x - x_hat)^2] = V."""
    terms = []
    for i in range(grid.steps):
        t, s = take(grid.t, i), take(grid.s, i)
        residual = VAR * t.sigma**2 / (t.alpha**2 * VAR + t.sigma**2)
        if s.sigma == 0:
            width = 2 / (LEVELS - 1)
            terms.append(
                0.5 * np.log(2 * np.pi * decoder_std**2)
                + residual / (2 * decoder_std**2)
                - np.log(width)
            )
            continue
        step = t.sigma**2 - (t.alpha / s.alpha) ** 2 * s.sigma**2  # beta
        q_var = step * s.sigma**2 / t.sigma**2  # beta tilde
        c = s.alpha * step / t.sigma**2
        p_var = {"small": q_var, "large": step, "learned": q_var + c**2 * residual}[variance]
        terms.append(0.5 * (np.log(p_var / q_var) + (q_var + c**2 * residual) / p_var - 1))
    first = take(grid.t, 0)
    second = first.alpha**2 * (MEAN**2 + VAR)
    prior = 0.5 * (second + first.sigma**2 - 1 - np.log(first.sigma**2))
    return prior, np.array(terms)


ENTROPY = 0.5 * np.log(2 * np.pi * np.e * VAR) - np.log(2 / (LEVELS - 1))


def optimal(grid):
    """The network with learned variance whose v gives the true reverse variance of a Gaussian."""
    # v depends on (t, s); look the pair up by its level.
    t, s = grid.t, grid.s
    step = t.sigma**2 - (t.alpha / s.alpha) ** 2 * s.sigma**2
    with np.errstate(divide="ignore"):
        low, high = np.log(step * s.sigma**2 / t.sigma**2), np.log(step)
    residual = VAR * t.sigma**2 / (t.alpha**2 * VAR + t.sigma**2)
    true = np.log(step * s.sigma**2 / t.sigma**2 + (s.alpha * step / t.sigma**2) ** 2 * residual)
    low[-1], high[-1] = 2 * decoder_log_std(grid), np.log(t.sigma[-1] ** 2)
    if high[-1] - low[-1] < 1e-6:
        low[-1] = high[-1] - 1.0
    v = 2 * (true - low) / (high - low) - 1

    def estimate(z, level, to):
        at = jnp.argmin(jnp.abs(jnp.asarray(t.sigma, jnp.float32) - level.sigma))
        guess = gaussian_estimate(z, level, to).x
        return Estimate(guess, jnp.broadcast_to(jnp.asarray(v, jnp.float32)[at], guess.shape))

    return estimate


@pytest.mark.parametrize(
    ("schedule", "steps", "variance"),
    [
        (Linear(steps=100, beta_end=0.2), 100, "small"),
        (Linear(steps=100, beta_end=0.2), 100, "large"),
        (ContinuousCosine(-10, 12), 60, "large"),
    ],
)
def test_bound_equals_the_sum_of_its_kls(schedule, steps, variance, gaussian):
    grid = make_grid(schedule, steps, "linspace")
    data = type(gaussian)((1.0,), ((MEAN,),), (VAR**0.5,))
    x = quantised(data, (1000, 16))
    keys = keys_of(1000)
    bound = jax.jit(
        lambda x, k: variational_bound(gaussian_estimate, grid, x, k, variance, LEVELS)
    )(x, keys)
    prior, terms = closed_form(grid, variance, np.exp(decoder_log_std(grid)))
    # Each term is a mean over 16,000 draws, with its own standard error.
    got = np.asarray(bound["terms"], np.float64).mean(1) * LOG2
    error = np.asarray(bound["terms"], np.float64).std(1) * LOG2 / 1000**0.5
    assert np.all(np.abs(got - terms) < 4.5 * error + 1e-4 * np.abs(terms) + 1e-6)
    np.testing.assert_allclose(np.mean(bound["prior"]) * LOG2, prior, rtol=0.05, atol=1e-6)
    total = np.asarray(bound["total"], np.float64) * LOG2
    exact = prior + terms.sum()
    assert abs(total.mean() - exact) < 4 * total.std() / 1000**0.5 + 1e-4
    assert exact > ENTROPY
    np.testing.assert_allclose(
        bound["total"], bound["prior"] + bound["diffusion"] + bound["decoder"], rtol=1e-5
    )


def test_the_bound_falls_to_the_entropy(gaussian):
    """With the exact denoiser the only slack is the steps' (Kingma et al. 2021, appendix F): it
    falls as 1 / T to the entropy of the quantised Gaussian, which no model can beat."""
    slack = []
    for steps in (100, 200, 400, 800, 1600):
        grid = make_grid(ContinuousCosine(-12, 16), steps, "log_snr")
        prior, terms = closed_form(grid, "small", np.exp(decoder_log_std(grid)))
        slack.append(prior + terms.sum() - ENTROPY)
    assert np.all(np.array(slack) > 0) and slack[-1] < 0.06
    assert np.all(np.abs(np.array(slack[:-1]) / slack[1:] - 2) < 0.2)
    # What float32 makes of 1,600 steps.
    data = type(gaussian)((1.0,), ((MEAN,),), (VAR**0.5,))
    x, keys = quantised(data, (100, 16)), keys_of(100)
    run = jax.jit(lambda x, k: variational_bound(gaussian_estimate, grid, x, k, "small", LEVELS))
    bound = run(x, keys)
    total = np.asarray(bound["total"], np.float64) * LOG2
    assert abs(total.mean() - ENTROPY - slack[-1]) < 4 * total.std() / 10 + 1e-3


def test_the_true_reverse_variance_is_better_than_either_bound(gaussian):
    """iDDPM's claim: at few steps a variance between beta-tilde and beta beats both; for a Gaussian
    the optimum is exact, and the bound with it is within its two ends of the entropy."""
    grid = make_grid(ContinuousCosine(-12, 12), 10, "log_snr")
    decoder = np.exp(decoder_log_std(grid))
    total = {v: sum(map(np.sum, closed_form(grid, v, decoder))) for v in ("small", "large")}
    data = type(gaussian)((1.0,), ((MEAN,),), (VAR**0.5,))
    x, keys = quantised(data, (1000, 16)), keys_of(1000)
    run = jax.jit(lambda x, k: variational_bound(optimal(grid), grid, x, k, "learned", LEVELS))
    learned = run(x, keys)
    prior, terms = closed_form(grid, "learned", decoder)
    got = np.asarray(learned["total"], np.float64) * LOG2
    assert abs(got.mean() - (prior + terms.sum())) < 4 * got.std() / 1000**0.5 + 1e-3
    assert got.mean() < total["small"] - 0.1 and got.mean() < total["large"] - 0.1
    assert 0 < prior + terms.sum() - ENTROPY < 0.01


def test_learned_variance_at_its_ends():
    """v = -1 is beta-tilde and v = 1 is beta, term by term; but for the last of v = 1, whose upper
    end is beta itself."""
    grid = make_grid(Linear(), 20, "trailing")
    x, keys = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4), keys_of(4)

    @jax.jit
    def learned(v):
        def with_v(z, level, to):
            x_hat = gaussian_estimate(z, level, to).x
            return Estimate(x_hat, jnp.full_like(x_hat, v))

        return variational_bound(with_v, grid, x, keys, "learned")["terms"]

    for v, variance, last in ((-1.0, "small", None), (1.0, "large", -1)):
        fixed = jax.jit(partial(variational_bound, gaussian_estimate, grid, variance=variance))
        expected = fixed(x, keys)["terms"][:last]
        np.testing.assert_allclose(learned(v)[:last], expected, rtol=1e-4, atol=1e-6)


def test_decoder_of_the_published_tables():
    """Ho et al. 2020's code: the first log variance is the second posterior's,
    beta_2 (1 - bar_1) / (1 - bar_2)."""
    table = Linear()
    beta, bar = table.betas(), table.alphas_cumprod
    expected = 0.5 * np.log(beta[1] * (1 - bar[0]) / (1 - bar[1]))
    assert decoder_log_std(make_grid(table, 1000, "linspace")) == pytest.approx(expected, rel=1e-7)
    continuous = make_grid(EDM(), 10, "karras")
    assert decoder_log_std(continuous) == pytest.approx(np.log(0.002), rel=1e-9)


def test_gaussian_kl():
    m1, m2, s1, s2 = 0.3, -0.5, 0.7, 1.4
    x = np.linspace(-12, 12, 400001)
    p, q = norm(m1, s1), norm(m2, s2)
    exact = np.sum(p.pdf(x) * (p.logpdf(x) - q.logpdf(x))) * (x[1] - x[0])
    got = gaussian_kl(*(jnp.float32(a) for a in (m1, 2 * np.log(s1), m2, 2 * np.log(s2))))
    assert float(got) == pytest.approx(exact, rel=1e-5)


STDS = np.array([1e-3, 1e-2, 0.1, 0.5, 3.0], np.float32).reshape(-1, 1, 1)
MEANS = np.array([-1.2, -0.3, 0.0, 0.7], np.float32).reshape(-1, 1)


MASS = jax.jit(discretized_gaussian_log_likelihood, static_argnums=3)


def log_mass(x, levels):
    """`[stds, means, x]`."""
    return MASS(x, MEANS, np.log(STDS), levels)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_discretised_gaussian_sums_to_one(levels):
    mass = np.exp(log_mass(np.linspace(-1, 1, levels, dtype=np.float32), levels))
    np.testing.assert_allclose(mass.sum(-1), 1.0, atol=3e-5)


def exact_log_mass(x, mean, std, levels):
    """float64, the difference taken in the tail where it does not cancel."""
    half = 1 / (levels - 1)
    gap = -np.abs(x - mean)
    near, far = norm.logcdf((gap + half) / std), norm.logcdf((gap - half) / std)
    inner = near + np.log(-np.expm1(far - near))
    low, high = norm.logcdf((x - mean + half) / std), norm.logsf((x - mean - half) / std)
    return np.where(x < -1 + half, low, np.where(x > 1 - half, high, inner))


@pytest.mark.parametrize("levels", [17, 256, 65536])
def test_discretised_gaussian_equals_scipy_far_into_the_tails(levels):
    x = np.linspace(-1, 1, levels)[:: max(1, levels // 64)].astype(np.float32)
    exact = exact_log_mass(x.astype(float), MEANS.astype(float), STDS.astype(float), levels)
    assert exact.min() < -1e6
    # A logarithm in the tail is as good as x - mean, which float32 knows to 6e-8 of it.
    np.testing.assert_allclose(log_mass(x, levels), exact, rtol=2e-4, atol=2e-3)


def test_gradients_are_finite_everywhere():
    """A hybrid loss differentiates every branch of every row, chosen or not."""
    table = Cosine()
    t = jnp.asarray([0.0, 1.0, 10.0, 500.0, 998.0, 999.0])
    level = table.level(t)
    below = table.level(jnp.maximum(t - 1, 0))
    below = Level(*(jnp.where(t > 0, a, jnp.float32(b)) for a, b in zip(below, CLEAN, strict=True)))
    x = jnp.linspace(-1, 1, 24).reshape(6, 4)
    z = diffuse(x, jnp.ones_like(x), level)

    def loss(x_hat, v):
        first = decoder_log_std(make_grid(table, 1000, "linspace"))
        term = bound_term(Estimate(x_hat, v), x, z, level, below, "learned", 256, first)
        return jnp.sum(term), term

    slopes = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    for offset in (0.0, 0.5, 3.0):
        grads, term = slopes(x + offset, jnp.zeros_like(x))
        assert all(np.all(np.isfinite(g)) for g in grads)
        assert np.all(np.isfinite(term)) and np.all(term > -1e-6)
        assert np.all(np.any(np.abs(grads[1]) > 0, axis=1))


def test_errors():
    x, keys, grid = jnp.zeros((1, 2)), keys_of(1), make_grid(Linear(), 4)
    with pytest.raises(ValueError, match="variance='learned' needs a network"):
        variational_bound(gaussian_estimate, grid, x, keys, "learned")
    with pytest.raises(ValueError, match="'huge' is unknown; known: small, large, learned"):
        log_variance(Estimate(x), x, x, "huge")
    with pytest.raises(ValueError, match="down to the clean end"):
        variational_bound(gaussian_estimate, make_grid(Linear(), 4, final="first"), x, keys)
    with pytest.raises(ValueError, match="infinite at the grid's first level"):
        flow_log_likelihood(gaussian_estimate, make_grid(RectifiedFlow(), 4), x, keys)


def log_density(mixture, x, grid):
    """Of the model: the law that the exact flow carries to the prior, at the grid's least level.

    The noisiest marginal is the prior but for the data's own spread, 1 / 80^2 of its variance.
    """
    return mixture.log_prob(np.asarray(x, float), take(grid.t, -1))


@pytest.mark.parametrize(
    ("schedule", "spacing", "law"),
    [
        (EDM(), "karras", "gaussian"),
        (EDM(), "log_snr", "plane"),
        (VPSDE(), "log_snr", "gaussian"),
        (Linear(), "log_snr", "plane"),
    ],
)
def test_flow_likelihood_is_the_log_density(schedule, spacing, law, request):
    """Second order in the steps: 0.02 nats at the worst point with 80; with
    480 the prior's the prior's own approximation is left: 0.006."""
    mixture = request.getfixturevalue(law)
    x = mixture.draw(16, seed=2)
    for steps, worst in ((80, 0.02), (480, 0.012)):
        grid = make_grid(schedule, steps, spacing)
        start = (x * take(grid.t, -1).alpha).astype(np.float32)
        run = jax.jit(partial(flow_log_likelihood, mixture.estimate, grid, probes=None))
        got, z = run(x=start, keys=keys_of(16))
        np.testing.assert_allclose(got, log_density(mixture, start, grid), atol=worst)
    assert np.std(z) == pytest.approx(schedule.prior_std(take(grid.t, 0)), rel=0.5)


def test_hutchinson_is_exact_in_expectation(plane):
    """Rademacher probes: unbiased, and the less spread the more of them."""
    grid = make_grid(EDM(), 20, "karras")
    point = plane.draw(1, seed=5).astype(np.float32)
    x, keys = np.tile(point, (1024, 1)), keys_of(1024)

    def run(probes):
        got = jax.jit(lambda x, k: flow_log_likelihood(plane.estimate, grid, x, k, probes)[0])
        return np.asarray(got(x, keys), np.float64)

    exact, one, several = run(None), run(1), run(8)
    assert one.std() > 1e-3 > exact.std()  # it is an estimate
    assert abs(one.mean() - exact[0]) < 4 * one.std() / 32 + 1e-4
    assert several.std() < 0.6 * one.std()
