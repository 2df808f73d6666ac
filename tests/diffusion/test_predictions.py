"""All predictions are one prediction: each turns into x_hat and back, and gives one loss."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.diffusion.levels import Level
from diffjax.diffusion.predictions import PREDICTIONS, EDMPrecondition, Eps, Flow, V, check_ends
from diffjax.diffusion.process import denoising_loss, diffuse, mean_flat
from diffjax.diffusion.schedules import EDM, Linear, RectifiedFlow, ScaledLinear
from diffjax.diffusion.weightings import Simple


@pytest.fixture(params=sorted(PREDICTIONS))
def prediction(request):
    return PREDICTIONS[request.param]()


@pytest.fixture
def level(schedule):
    """Eight levels of the schedule, away from its ends, as training sees them."""
    t = np.linspace(0.15, 0.85, 8) * (schedule.t_max - schedule.t_min) + schedule.t_min
    return Level(*(jnp.asarray(a, jnp.float32) for a in schedule.level(np.round(t, 3))))


@pytest.fixture
def images(normals):
    return normals((8, 4, 4, 3), 1), normals((8, 4, 4, 3), 2), normals((8, 4, 4, 3), 3)


def relative(a, b):
    return float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)))


def test_a_perfect_network_gives_the_image(prediction, level, images):
    x, eps, _ = images
    z = diffuse(x, eps, level)
    back = prediction.to_x(prediction.target(x, eps, level), z, level)
    # z / alpha and sigma / alpha eps cancel: float32 leaves 1 / alpha of its digits.
    tolerance = 4e-7 * np.maximum(1, np.asarray(level.ratio)) * np.max(np.abs(z))
    error = np.max(np.abs(back - x), axis=(1, 2, 3))
    assert np.all(error < np.maximum(tolerance, 2e-5 * np.max(np.abs(x))))


def test_from_x_inverts_to_x(prediction, level, images):
    x, eps, output = images
    z = diffuse(x, eps, level)
    back = prediction.from_x(prediction.to_x(output, z, level), z, level)
    assert relative(back, output) < 2e-3  # conditioned by sigma / alpha up to 50 and its inverse


def test_float64_round_trip(prediction):
    # The same two laws without rounding, by the coefficients alone.
    t = np.linspace(1, 998, 50).round()
    level = Linear().level(t)
    a, b = prediction.mix(level)
    d = prediction.determinant(level)
    x, eps = 0.3, -1.7
    z, f = level.alpha * x + level.sigma * eps, a * x + b * eps
    np.testing.assert_allclose((b * z - level.sigma * f) / d, x, rtol=1e-9)
    np.testing.assert_allclose((level.alpha * f - a * z) / d, eps, rtol=1e-9)


def test_any_output_has_one_eps_error(prediction, level, images):
    """`eps_loss_scale MSE(F) = MSE(eps)` with eps_hat read from x_hat."""
    x, eps, output = images
    z = diffuse(x, eps, level)
    f_mse = mean_flat((output - prediction.target(x, eps, level)) ** 2)
    alpha, sigma = level.alpha[:, None, None, None], level.sigma[:, None, None, None]
    eps_hat = (z - alpha * prediction.to_x(output, z, level)) / sigma
    np.testing.assert_allclose(
        prediction.eps_loss_scale(level) * f_mse, mean_flat((eps - eps_hat) ** 2), rtol=2e-3
    )


def test_one_estimate_one_loss(schedule, level, images):
    """Networks with the same x_hat have the same loss, whatever they predict."""
    x, eps, noise = images
    z = diffuse(x, eps, level)
    x_hat = x + 0.3 * noise
    losses = [
        denoising_loss(p().from_x(x_hat, z, level), x, eps, level, schedule, p(), Simple())[0]
        for p in PREDICTIONS.values()
    ]
    snr = np.asarray(level.alpha / level.sigma, np.float64) ** 2
    expected = snr * np.mean(0.09 * np.asarray(noise, np.float64) ** 2, axis=(1, 2, 3))
    for loss in losses:
        np.testing.assert_allclose(loss, expected, rtol=5e-3)


def test_edm_table_one():
    sd, sigma = 0.5, np.geomspace(0.002, 80, 30)
    level, prediction = EDM().level(sigma), EDMPrecondition(sigma_data=sd)
    d = prediction.determinant(level)
    _, b = prediction.mix(level)
    root = np.sqrt(sigma**2 + sd**2)
    np.testing.assert_allclose(b / d, sd**2 / root**2, rtol=1e-12)  # c_skip
    np.testing.assert_allclose(-sigma / d, sigma * sd / root, rtol=1e-12)  # c_out
    np.testing.assert_allclose(prediction.input_scale(level), 1 / root, rtol=1e-12)
    np.testing.assert_allclose(prediction.c_noise(EDM(), level), np.log(sigma) / 4, rtol=1e-12)


def test_published_targets():
    level = Linear().level(np.array([500.0]))
    x, eps = jnp.full((1, 2), 0.3), jnp.full((1, 2), -1.1)
    alpha, sigma = float(level.alpha[0]), float(level.sigma[0])
    assert np.allclose(Eps().target(x, eps, level), eps)
    assert np.allclose(V().target(x, eps, level), alpha * -1.1 - sigma * 0.3, rtol=1e-6)
    assert np.allclose(Flow().target(x, eps, level), -1.4)


def test_networks_see_times_of_one_scale():
    for schedule in (Linear(), Linear(steps=4000), RectifiedFlow()):
        level = schedule.level(np.float64(schedule.t_max))
        assert 990 < V().c_noise(schedule, level) <= 1000


@pytest.mark.parametrize("schedule", [RectifiedFlow(), ScaledLinear(zero_terminal_snr=True)])
def test_eps_at_full_noise_is_refused(schedule):
    with pytest.raises(ValueError, match=r"eps-prediction is undefined at t=.* use prediction v"):
        check_ends(schedule, Eps())
    for prediction in (p() for name, p in PREDICTIONS.items() if name != "eps"):
        check_ends(schedule, prediction)


@pytest.mark.parametrize("name", ["x0", "v", "flow", "edm"])
def test_full_noise_is_finite(name, normals):
    prediction, z = PREDICTIONS[name](), normals((1, 8))
    level = RectifiedFlow().level(np.array([1.0]))
    x_hat = prediction.to_x(normals((1, 8), 1), z, level)
    assert np.all(np.isfinite(x_hat))
    assert np.all(np.isfinite(prediction.from_x(x_hat, z, level)))
