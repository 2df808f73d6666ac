"""Schedules equal the published tables; levels and log SNR invert each other."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.diffusion.schedules import (
    EDM,
    SCHEDULES,
    VE,
    VPSDE,
    ContinuousCosine,
    Cosine,
    Linear,
    RectifiedFlow,
    ScaledLinear,
    Sigmoid,
    SigmoidBeta,
)


def interior(schedule, n=101):
    """Times within the range, integers on a table."""
    t = np.linspace(schedule.t_min, schedule.t_max, n)
    if schedule.discrete:
        t = np.round(t)
    # rectified flow holds no signal at t = 1
    return t[:-1] if isinstance(schedule, RectifiedFlow) else t


@pytest.mark.parametrize(
    ("schedule", "first", "last"),
    [
        # alpha_bar at both ends as the papers' own code computes them (float64).
        (Linear(), 0.9999, 4.035830e-05),
        (ScaledLinear(), 0.99915, 4.660099e-03),
        (Cosine(), 0.9999587, 2.4288e-09),
    ],
)
def test_published_ends(schedule, first, last):
    np.testing.assert_allclose(schedule.alphas_cumprod[[0, -1]], [first, last], rtol=2e-5)


def test_linear_is_a_product_of_betas():
    alpha_bar, product = [], 1.0
    for i in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * i / 999)
        alpha_bar.append(product)
    np.testing.assert_allclose(Linear().alphas_cumprod, alpha_bar, rtol=1e-12)


def test_cosine_follows_its_curve_until_the_cap():
    # Nichol & Dhariwal 2021, eq. 17: alpha_bar_t = f(t) / f(0), index i holding t = i + 1.
    def f(t):
        return np.cos((t / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2

    t = np.arange(1, 1001)
    table = Cosine().alphas_cumprod
    capped = 1 - f(t) / f(t - 1) > 0.999
    assert capped.sum() == 1 and capped[-1]
    np.testing.assert_allclose(table[~capped], f(t[~capped]) / f(0), rtol=1e-9)
    np.testing.assert_allclose(table[-1], table[-2] * 1e-3, rtol=1e-9)


def test_sigmoid_is_a_scaled_sigmoid():
    # Jabri et al. 2023, algorithm 1, start -3, end 3, tau 1, written with plain exponentials.
    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    u = np.arange(1, 1000) / 1000
    curve = (sigmoid(3) - sigmoid(6 * u - 3)) / (sigmoid(3) - sigmoid(-3))
    np.testing.assert_allclose(Sigmoid().alphas_cumprod[:-1], curve, rtol=1e-9)


def test_sigmoid_betas():
    ramp = 1 / (1 + np.exp(-np.linspace(-6, 6, 1000)))
    np.testing.assert_allclose(SigmoidBeta().betas(), 1e-4 + ramp * 0.0199, rtol=1e-12)


def test_zero_terminal_snr_keeps_the_first_level_and_empties_the_last():
    plain, rescaled = ScaledLinear(), ScaledLinear(zero_terminal_snr=True)
    np.testing.assert_allclose(rescaled.alphas_cumprod[0], plain.alphas_cumprod[0], rtol=1e-12)
    last = rescaled.level(np.float64(999))
    assert last.alpha < 1e-15 and last.sigma == 1.0
    # Lin et al. 2023, algorithm 1, is a shift and a scale of sqrt(alpha_bar).
    a, b = np.sqrt(plain.alphas_cumprod), np.sqrt(rescaled.alphas_cumprod)
    np.testing.assert_allclose(np.diff(b) / np.diff(a), b[0] / (a[0] - a[-1]), rtol=1e-9)


def test_vp_sde_integrates_its_rate():
    # alpha = exp(-1/2 int beta), beta(t) = 0.1 + 19.9 t, by quadrature.
    t = np.linspace(0, 1, 20001)
    beta = 0.1 + 19.9 * t
    integral = np.concatenate([[0], np.cumsum((beta[1:] + beta[:-1]) / 2 * np.diff(t))])
    level = VPSDE().level(t[1:])
    np.testing.assert_allclose(level.alpha, np.exp(-integral[1:] / 2), rtol=1e-9)
    np.testing.assert_allclose(level.sigma**2, 1 - np.exp(-integral[1:]), rtol=1e-7)


def test_continuous_schedules_equal_their_formulas():
    t = np.linspace(0.01, 0.99, 50)
    ve = VE().level(t)
    np.testing.assert_allclose(ve.sigma, 0.01 * 5000**t, rtol=1e-12)
    np.testing.assert_array_equal(ve.alpha, 1.0)
    edm = EDM().level(t)
    np.testing.assert_array_equal(edm.sigma, t)
    flow = RectifiedFlow(shift=3.0).level(t)
    np.testing.assert_allclose(flow.sigma, 3 * t / (1 + 2 * t), rtol=1e-12)
    np.testing.assert_allclose(flow.alpha + flow.sigma, 1.0, rtol=1e-12)
    # Without truncation the cosine schedule is alpha = cos(pi t / 2).
    cosine = ContinuousCosine(logsnr_min=-60, logsnr_max=60).level(t)
    np.testing.assert_allclose(cosine.alpha, np.cos(np.pi * t / 2), rtol=1e-9)
    shifted = ContinuousCosine(shift=2 * np.log(64 / 256)).level(t)
    np.testing.assert_allclose(
        shifted.logsnr, ContinuousCosine().level(t).logsnr - 4 * np.log(2), rtol=1e-9
    )


@pytest.mark.parametrize("name", [n for n in SCHEDULES if n not in ("ve", "edm", "rectified_flow")])
def test_variance_preserving(name):
    schedule = SCHEDULES[name]()
    level = schedule.level(interior(schedule))
    np.testing.assert_allclose(level.alpha**2 + level.sigma**2, 1.0, rtol=1e-12)


def test_noise_rises_with_time(schedule):
    assert np.all(np.diff(schedule.level(interior(schedule)).logsnr) < 0)


def test_time_of_inverts_log_snr(schedule):
    t = interior(schedule)
    back = schedule.time_of(schedule.level(t).logsnr)
    np.testing.assert_allclose(back, t, rtol=1e-8, atol=1e-8 * schedule.t_max)


def test_numpy_and_jax_agree(schedule):
    t = interior(schedule)
    exact, quick = schedule.level(t), schedule.level(jnp.asarray(t, jnp.float32))
    assert exact.sigma.dtype == np.float64 and quick.sigma.dtype == jnp.float32
    # float32 of a time near 1 costs a continuous schedule digits of alpha: compare in absolute.
    scale = np.maximum(1.0, exact.sigma)
    assert np.max(np.abs(quick.alpha - exact.alpha)) < 2e-6
    assert np.max(np.abs(quick.sigma - exact.sigma) / scale) < 2e-5
    back = schedule.time_of(jnp.asarray(exact.logsnr, jnp.float32))
    assert np.max(np.abs(back - t)) < 1e-4 * schedule.t_max


def test_prior_is_unit_noise_or_sigma(schedule):
    level = schedule.level(np.float64(schedule.t_max))
    expected = level.sigma if isinstance(schedule, VE | EDM) else 1.0
    assert schedule.prior_std(level) == pytest.approx(expected)
