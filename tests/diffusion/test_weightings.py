"""Weights equal the papers' formulas, all as multiples of the MSE of eps."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
import pytest

from diffjax.diffusion.levels import Level
from diffjax.diffusion.predictions import PREDICTIONS, X0, EDMPrecondition, V
from diffjax.diffusion.schedules import EDM, SCHEDULES, ContinuousCosine, Linear
from diffjax.diffusion.weightings import (
    P2,
    SNR,
    VLB,
    VMSE,
    WEIGHTINGS,
    EDMWeighting,
    MinSNR,
    SigmoidWeighting,
    Simple,
)

SNRS = np.geomspace(1e-3, 1e3, 25)


def single(level):
    """A level in float32."""
    return Level(*(np.asarray(a, np.float32) for a in level))


def weigh(weighting, schedule, level):
    return np.asarray(jax.jit(partial(weighting, schedule))(level))


def at(snr):
    """A variance-preserving level of each SNR, float32."""
    alpha, sigma = np.sqrt(snr / (1 + snr)), np.sqrt(1 / (1 + snr))
    return single((np.zeros_like(snr), alpha, sigma))


@pytest.mark.parametrize(
    ("weighting", "on_eps"),
    [
        (Simple(), np.ones_like(SNRS)),
        (SNR(power=0.0), 1 / SNRS),
        (SNR(power=1.0), np.ones_like(SNRS)),
        (SNR(power=0.5), SNRS**-0.5),
        # truncated SNR is max(SNR, 1) on the x0-MSE
        (SNR(power=1.0, truncated=True), np.maximum(SNRS, 1) / SNRS),
        (VMSE(), (SNRS + 1) / SNRS),
        (MinSNR(gamma=5.0), np.minimum(SNRS, 5) / SNRS),
        (P2(k=1.0, gamma=0.5), 1 / (1 + SNRS) ** 0.5),
        # EDM's lambda(sigma), sigma^2 = 1 / SNR, is on the x0-MSE
        (EDMWeighting(sigma_data=0.5), (1 / SNRS + 0.25) / (0.25 / SNRS) / SNRS),
    ],
    ids=lambda v: repr(v) if not isinstance(v, np.ndarray) else "",
)
def test_formula(weighting, on_eps):
    np.testing.assert_allclose(weigh(weighting, Linear(), at(SNRS)), on_eps, rtol=1e-5)


def test_a_prediction_with_its_own_weight_has_its_plain_mse():
    level = at(SNRS)
    for weighting, prediction in [
        (SNR(power=0.0), X0()),
        (VMSE(), V()),
        (EDMWeighting(0.5), EDMPrecondition(0.5)),
        (Simple(), PREDICTIONS["eps"]()),
    ]:
        weight = weighting(Linear(), level) * prediction.eps_loss_scale(level)
        np.testing.assert_allclose(weight, 1.0, rtol=1e-5)


@pytest.mark.parametrize("name", ["vp_sde", "continuous_cosine", "ve", "edm", "rectified_flow"])
def test_vlb_is_the_slope_of_log_snr(name):
    schedule = SCHEDULES[name]()
    span = schedule.t_max - schedule.t_min
    t = schedule.t_min + span * np.linspace(0.1, 0.9, 17)
    h = 1e-6 * span
    slope = (schedule.level(t + h).logsnr - schedule.level(t - h).logsnr) / (2 * h)
    weight = weigh(VLB(), schedule, single(schedule.level(t)))
    np.testing.assert_allclose(weight, -slope / 2 * span, rtol=2e-3)


@pytest.mark.parametrize("name", ["linear", "vp_sde", "edm", "rectified_flow"])
def test_the_sigmoid_is_of_the_bounds_own_weight(name):
    schedule = SCHEDULES[name]()
    t = schedule.t_min + (schedule.t_max - schedule.t_min) * np.linspace(0.1, 0.9, 17)
    level = single(schedule.level(t))
    share = weigh(SigmoidWeighting(bias=2.0), schedule, level) / weigh(VLB(), schedule, level)
    np.testing.assert_allclose(share, 1 / (1 + np.exp(level.logsnr - 2.0)), rtol=1e-4)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_vlb_on_a_table_is_a_difference(name):
    schedule = SCHEDULES[name]()
    t = np.arange(0.0, 999.0)
    logsnr = schedule.level(np.arange(1000.0)).logsnr
    steps = (logsnr[:-1] - logsnr[1:]) / 2 * 999
    weight = weigh(VLB(), schedule, single(schedule.level(t)))
    # At a knot the slope is that of the piece on one of its sides.
    after, before = np.abs(weight / steps - 1), np.abs(weight[1:] / steps[:-1] - 1)
    assert np.all(np.minimum(after[1:], before) < 1e-3) and after[0] < 1e-3
    assert np.isfinite(weigh(VLB(), schedule, single(([999.0], [1.0], [1.0]))))[0]


def test_the_bound_does_not_depend_on_the_schedule(gaussian):
    """E_t[VLB weight x eps-MSE] depends on the end levels alone (Kingma et al. 2021, eq. 18)."""
    totals = []
    for schedule in (ContinuousCosine(-10, 10), EDM(np.exp(-5.0), np.exp(5.0))):
        # the midpoint rule in log SNR-even times, mapped back to uniform t by its own density
        u = (np.arange(4000) + 0.5) / 4000
        t = schedule.time_of(-10 + 20 * u)
        level = schedule.level(t)
        var = gaussian.stds[0] ** 2
        x_mse = var * level.sigma**2 / (level.alpha**2 * var + level.sigma**2)
        eps_mse = (level.alpha / level.sigma) ** 2 * x_mse
        weight = weigh(VLB(), schedule, single(level))
        density = np.abs(np.gradient(t, u)) / (schedule.t_max - schedule.t_min)
        totals.append(np.mean(np.asarray(weight) * eps_mse * density))
    # In closed form: 1/2 int var / (var SNR + 1) dSNR over the range.
    exact = 0.5 * np.log((0.25 * np.exp(10) + 1) / (0.25 * np.exp(-10) + 1))
    np.testing.assert_allclose(totals, exact, rtol=2e-3)


def test_weights_are_positive_everywhere(schedule):
    t = np.linspace(0.02, 0.98, 9) * (schedule.t_max - schedule.t_min) + schedule.t_min
    level = schedule.level(np.round(t) if schedule.discrete else t)
    level = single(level)
    every = lambda level: {n: w()(schedule, level) for n, w in WEIGHTINGS.items()}  # noqa: E731
    for name, weight in jax.device_get(jax.jit(every)(level)).items():
        assert np.all(np.isfinite(weight) & (weight > 0)), name
