"""The forward process, its posterior by Bayes' rule, and the loss it trains."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from diffjax.diffusion.levels import CLEAN, Level, take
from diffjax.diffusion.predictions import V
from diffjax.diffusion.process import denoising_loss, diffuse, posterior
from diffjax.diffusion.schedules import Linear
from diffjax.diffusion.weightings import MinSNR


def pair(schedule, i=0.6, j=0.5):
    span = schedule.t_max - schedule.t_min
    t, s = (schedule.t_min + span * u for u in (i, j))
    if schedule.discrete:
        t, s = round(t), round(s)
    return schedule.level(np.float64(t)), schedule.level(np.float64(s))


def test_posterior_is_bayes_rule(schedule):
    """q(z_s | z_t, x) from the product of two Gaussians, one of them z_t's given z_s."""
    t, s = pair(schedule)
    x, z = 0.7, -0.4
    mean, log_small, log_large = posterior(jnp.array([z]), jnp.array([x]), t, s)
    scale = t.alpha / s.alpha
    step_var = t.sigma**2 - scale**2 * s.sigma**2  # z_t = scale z_s + sqrt(step_var) noise
    precision = 1 / s.sigma**2 + scale**2 / step_var
    expected = (s.alpha * x / s.sigma**2 + scale * z / step_var) / precision
    np.testing.assert_allclose(mean[0], expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(log_small, -np.log(precision), rtol=1e-9)
    np.testing.assert_allclose(log_large, np.log(step_var), rtol=1e-9)


def test_ddpm_equation_seven():
    """In betas, as Ho et al. 2020 wrote the posterior."""
    table = Linear()
    beta, bar = table.betas(), table.alphas_cumprod
    i = np.arange(1, 1000)
    t, s = table.level(i.astype(float)), table.level(i - 1.0)
    mean, log_small, log_large = posterior(jnp.ones(999), jnp.zeros(999), t, s)
    np.testing.assert_allclose(
        mean, np.sqrt(1 - beta[i]) * (1 - bar[i - 1]) / (1 - bar[i]), rtol=1e-6
    )
    small = beta[i] * (1 - bar[i - 1]) / (1 - bar[i])
    np.testing.assert_allclose(np.exp(log_small), small, rtol=1e-8)
    np.testing.assert_allclose(np.exp(log_large), beta[i], rtol=1e-8)


def test_the_last_posterior_is_the_image(schedule):
    t, _ = pair(schedule)
    mean, log_small, _ = posterior(jnp.array([5.0]), jnp.array([0.3]), t, CLEAN)
    np.testing.assert_allclose(mean, 0.3, rtol=1e-6)
    assert log_small < -80


def test_diffuse_has_the_moments_of_the_level(schedule, normals):
    level = take(schedule.level(np.array([0.5 * (schedule.t_min + schedule.t_max)])), [0])
    eps = normals((1, 40000))
    z = np.asarray(diffuse(jnp.full((1, 40000), 0.8), eps, level), np.float64)
    noise = np.asarray(eps, np.float64)
    np.testing.assert_allclose(
        z.mean(), level.alpha[0] * 0.8 + level.sigma[0] * noise.mean(), rtol=1e-4
    )
    np.testing.assert_allclose(z.std(), level.sigma[0] * noise.std(), rtol=1e-4)


def test_loss_is_per_example_in_float32(normals):
    table = Linear()
    level = Level(*(jnp.asarray(a, jnp.float32) for a in table.level(np.array([10.0, 900.0]))))
    x, eps = normals((2, 5), 1), normals((2, 5), 2)
    output = V().target(x, eps, level).at[1].add(0.5)
    loss, mse = denoising_loss(
        output.astype(jnp.bfloat16).astype(jnp.float32), x, eps, level, table, V(), MinSNR()
    )
    assert loss.shape == (2,) and loss.dtype == jnp.float32
    assert mse[0] < 1e-4 and abs(mse[1] - 0.25) < 0.01
