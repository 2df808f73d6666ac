"""Samplers converge at the order their papers state, measured in float64 on known distributions.

Steps run between two interior levels, so that neither the prior nor the last step to the clean
image, each exact or first order for every sampler, hides the order of the steps between.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from diffjax.diffusion.grids import forward_grid, make_grid
from diffjax.diffusion.levels import take
from diffjax.diffusion.samplers import ancestral, ddim, dpmpp_2m, euler, heun, plms, pndm
from diffjax.diffusion.schedules import EDM, VPSDE, ContinuousCosine

PATHS = {
    "edm-karras": (EDM(0.1, 4.0), "karras"),
    "vp-linspace": (VPSDE(epsilon=0.15), "linspace"),
    "cosine-log_snr": (ContinuousCosine(-5, 4), "log_snr"),
}


@pytest.fixture(params=sorted(PATHS))
def path(request):
    return PATHS[request.param]


def interior(path, steps):
    schedule, spacing = path
    return forward_grid(make_grid(schedule, steps + 1, spacing))


def starts(grid):
    first = take(grid.t, 0)
    return np.linspace(-2, 2, 41)[:, None] * np.hypot(first.alpha, first.sigma)


def exact_flow(mixture, grid):
    """The probability flow by an adaptive Runge-Kutta of order 8, in r = sigma / alpha."""
    first, last = take(grid.t, 0), take(grid.s, -1)

    def slope(r, y):
        level = grid.schedule.level(grid.schedule.time_of(np.array(-2 * np.log(r))))
        z = (y * level.alpha)[:, None]
        return ((z - level.alpha * mixture.denoise(z, level)) / level.sigma)[:, 0]

    y0 = starts(grid)[:, 0] / first.alpha
    way = solve_ivp(slope, (first.ratio, last.ratio), y0, method="DOP853", rtol=1e-11, atol=1e-12)
    return way.y[:, -1:] * last.alpha


def orders(errors):
    errors = np.array(errors)
    return np.log2(errors[:-1] / errors[1:])


def flow_errors(sampler, path, mixture, reading, doublings):
    exact = exact_flow(mixture, interior(path, doublings[0]))
    errors = []
    for steps in doublings:
        grid = interior(path, steps)
        last = reading(sampler(grid), mixture.denoise, starts(grid))
        errors.append(np.sqrt(np.mean((last - exact) ** 2)))
    return errors


@pytest.mark.parametrize(
    ("sampler", "order"),
    [(ddim, 1), (euler, 1), (heun, 2), (dpmpp_2m, 2), (plms, 2), (pndm, 2)],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_order_on_a_mixture(sampler, order, path, bimodal, reading):
    errors = flow_errors(sampler, path, bimodal, reading, [64, 128, 256])
    assert np.all(np.abs(orders(errors) - order) < 0.25), (errors, orders(errors))


@pytest.mark.parametrize(
    ("sampler", "least"), [(plms, 3.5), (pndm, 3.5)], ids=lambda v: getattr(v, "__name__", v)
)
def test_pseudo_methods_are_of_order_four_where_their_transfer_is_exact(
    sampler, least, bimodal, reading
):
    """Liu et al. 2022 lose order to the nonlinear transfer; even steps in sigma have none."""
    path = (EDM(0.1, 4.0), "linspace")
    errors = flow_errors(sampler, path, bimodal, reading, [128, 256, 512])
    assert np.all(orders(errors) > least), (errors, orders(errors))


def test_second_order_is_worth_its_evaluations(bimodal, reading, path):
    """At one budget of 64 evaluations: heun (32 steps) and dpmpp_2m beat ddim threefold."""
    exact = exact_flow(bimodal, interior(path, 64))

    def error(sampler, steps):
        grid = interior(path, steps)
        rows = sampler(grid)
        assert rows.nfe == 64
        return np.sqrt(np.mean((reading(rows, bimodal.denoise, starts(grid)) - exact) ** 2))

    first = error(ddim, 64)
    assert error(heun, 32) < first / 3
    assert error(dpmpp_2m, 64) < first / 3


def moments(rows, grid, gaussian, reading):
    """Mean and variance at the end, exactly: with an affine denoiser the last state is affine in
    the first and in every draw, so unit impulses give all coefficients and no sampling is done."""
    first, n = take(grid.t, 0), rows.nfe
    z, noise = np.zeros((n + 2, 1)), np.zeros((n, n + 2, 1))
    z[1] = 1.0
    noise[np.arange(n), np.arange(n) + 2] = 1.0
    out = reading(rows, gaussian.denoise, z, noise)[:, 0]
    offset, gains = out[0], out[1:] - out[0]
    mean = first.alpha * gaussian.means[0][0]
    var = (first.alpha * gaussian.stds[0]) ** 2 + first.sigma**2
    return offset + gains[0] * mean, gains[0] ** 2 * var + np.sum(gains[1:] ** 2)


@pytest.mark.parametrize(
    ("sampler", "order"),
    [
        (partial(ddim, eta=0.5), 1),
        (partial(ddim, eta=1.0), 1),
        (ancestral, 1),
        (partial(ancestral, variance="large"), 1),
        (partial(dpmpp_2m, stochastic=True), 2),
        (partial(heun, churn=5.0), 2),
    ],
    ids=["eta=0.5", "eta=1", "small", "large", "sde_2m", "churn"],
)
def test_weak_order_of_stochastic_samplers(sampler, order, path, gaussian, reading):
    """From the exact marginal of one level to that of another: the mean is exact, the variance
    converges."""
    errors = []
    for steps in (64, 128, 256):
        grid = interior(path, steps)
        mean, var = moments(sampler(grid), grid, gaussian, reading)
        last = take(grid.s, -1)
        assert abs(mean - last.alpha * gaussian.means[0][0]) < 1e-12
        errors.append(abs(var - ((last.alpha * gaussian.stds[0]) ** 2 + last.sigma**2)))
    assert errors[-1] < 0.006
    assert np.all(np.abs(orders(errors) - order) < 0.2), (errors, orders(errors))


def test_ancestral_variances_bracket_the_truth(gaussian, reading):
    """Ho et al. 2020, section 3.2: beta is right for unit Gaussian data, beta-tilde for a point;
    data between them gets too little of one and too much of the other."""
    path = (ContinuousCosine(-5, 8), "linspace")
    grid = interior(path, 40)
    last = take(grid.s, -1)
    truth = (last.alpha * gaussian.stds[0]) ** 2 + last.sigma**2
    small = moments(ancestral(grid), grid, gaussian, reading)[1]
    large = moments(ancestral(grid, variance="large"), grid, gaussian, reading)[1]
    assert small < truth < large
    unit = type(gaussian)((1.0,), ((0.0,),), (1.0,))
    assert moments(ancestral(grid, "large"), grid, unit, reading)[1] == pytest.approx(1.0, abs=1e-9)


def test_churn_adds_the_noise_it_claims(gaussian, reading):
    """One churned step raises the marginal exactly to the higher level before solving."""
    path = (VPSDE(epsilon=0.15), "linspace")
    grid = interior(path, 64)
    rows = heun(grid, churn=20.0)
    at_start = take(grid.t, 0)
    gamma = min(20.0 / 64, 2**0.5 - 1)
    assert rows.at.ratio[0] == pytest.approx(at_start.ratio * (1 + gamma), rel=1e-9)
    var = (at_start.alpha * gaussian.stds[0]) ** 2 + at_start.sigma**2
    raised = rows.scale[0] ** 2 * var + rows.churn[0] ** 2
    hat = take(rows.at, 0)
    assert raised == pytest.approx((hat.alpha * gaussian.stds[0]) ** 2 + hat.sigma**2, rel=1e-9)


def test_churn_stays_in_its_range():
    grid = make_grid(EDM(), 18, "karras")
    rows = heun(grid, churn=40.0, churn_min=0.05, churn_max=50.0, churn_noise=1.007)
    churned = rows.churn > 0
    first = rows.at.ratio / (1 + min(40 / 18, 2**0.5 - 1))
    assert np.all((first[churned] >= 0.05) & (first[churned] <= 50))
    # Karras et al. 2022, alg. 2, line 6: S_noise sqrt(t_hat^2 - t^2).
    expected = 1.007 * np.sqrt(rows.at.ratio**2 - first**2)
    np.testing.assert_allclose(rows.churn[churned], expected[churned], rtol=1e-9)
    assert 0 < churned.sum() < 18
