"""Every sampler on every schedule reaches the data; known identities between samplers."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.stats import norm

from diffjax.diffusion.grids import (
    RATIO_SPACINGS,
    SPACINGS,
    Grid,
    forward_grid,
    inverse_grid,
    make_grid,
    visited,
)
from diffjax.diffusion.levels import CLEAN, take
from diffjax.diffusion.samplers import (
    SAMPLERS,
    ancestral,
    ddim,
    dpmpp_2m,
    euler,
    heun,
    plms,
    pndm,
)
from diffjax.diffusion.schedules import (
    EDM,
    SCHEDULES,
    VPSDE,
    ContinuousCosine,
    Cosine,
    Linear,
    RectifiedFlow,
    ScaledLinear,
)

VARIANTS = {
    "ddpm": ancestral,
    "ddpm-large": partial(ancestral, variance="large"),
    "ddim": ddim,
    "ddim-eta": partial(ddim, eta=0.7),
    "heun": heun,
    "heun-churn": partial(heun, churn=10.0),
    "dpmpp_2m": dpmpp_2m,
    "sde-dpmpp_2m": partial(dpmpp_2m, stochastic=True),
    "plms": plms,
    "pndm": pndm,
}
COUNT = 4000


def wasserstein(values, mixture):
    """Mean distance between sorted samples and the exact quantiles (one dimension)."""
    x = np.linspace(-4, 4, 20001)
    parts = zip(mixture.weights, mixture.means, mixture.stds, strict=True)
    cdf = sum(w * norm.cdf(x, m[0], s) for w, m, s in parts)
    u = (np.arange(len(values)) + 0.5) / len(values)
    return np.mean(np.abs(np.sort(values) - np.interp(u, cdf, x)))


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_reaches_a_mixture(name, schedule, spacing, bimodal, reading):
    """W1 to the data's law after 100 steps from the prior. Data of standard deviation 0.86.

    Deterministic samplers start from exact quantiles of the prior, so only their discretisation
    (and the prior's own distance from the noisiest marginal) shows: 0.025. Stochastic ones add the
    error of 4,000 draws, about 0.9 / sqrt(4000) = 0.014, and are of weak order 1.
    """
    grid = make_grid(schedule, 100, spacing)
    rows = VARIANTS[name](grid)
    first = take(grid.t, 0)
    quantiles = norm.ppf((np.arange(COUNT) + 0.5) / COUNT)[:, None]
    rng = np.random.default_rng(0)
    z = schedule.prior_std(first) * rng.permutation(quantiles)
    noise = rng.standard_normal((rows.nfe, COUNT, 1)) if rows.stochastic else None
    out = reading(rows, bimodal.denoise, z, noise)[:, 0]
    assert wasserstein(out, bimodal) < (0.045 if rows.stochastic else 0.025)


@pytest.mark.parametrize("name", ["heun", "dpmpp_2m", "plms", "pndm"])
@pytest.mark.parametrize("kind", ["cosine", "sigmoid", "continuous_cosine", "rectified_flow"])
def test_few_steps_from_full_noise(kind, name, bimodal, reading):
    """Ten steps from a level of sigma / alpha in the thousands: rules that difference eps would
    multiply its error by that ratio, and must be no worse than DDIM."""
    schedule = SCHEDULES[kind]()
    grid = make_grid(schedule, 10, "trailing")
    z = norm.ppf((np.arange(COUNT) + 0.5) / COUNT)[:, None]
    plain = wasserstein(reading(ddim(grid), bimodal.denoise, z)[:, 0], bimodal)
    assert wasserstein(reading(SAMPLERS[name](grid), bimodal.denoise, z)[:, 0], bimodal) < plain


@pytest.mark.parametrize("spacing", [*SPACINGS, *RATIO_SPACINGS])
@pytest.mark.parametrize("kind", [Linear(), Cosine(), VPSDE()], ids=lambda s: type(s).__name__)
def test_any_spacing_runs(spacing, kind, gaussian, reading):
    grid = make_grid(kind, 40, spacing)
    first = take(grid.t, 0)
    # From the exact marginal, for leading and quadratic grids start below full noise.
    spread = np.hypot(first.alpha * gaussian.stds[0], first.sigma)
    z = first.alpha * gaussian.means[0][0] + spread * np.linspace(-2, 2, 9)[:, None]
    out = reading(heun(grid), gaussian.denoise, z)[:, 0]
    # The flow of a Gaussian keeps quantiles; the last step shrinks them by the last level's noise.
    np.testing.assert_allclose(out, 0.4 + 0.5 * np.linspace(-2, 2, 9), atol=0.12)


def test_ddim_is_euler_in_the_ratio(schedule, spacing, bimodal, reading):
    """d(z / alpha) = eps_hat d(sigma / alpha), stepped by hand."""
    grid = make_grid(schedule, 20, spacing)
    z = np.linspace(-2, 2, 11)[:, None]
    first = take(grid.t, 0)
    if first.alpha == 0:  # the ratio is infinite there
        grid = Grid(*(take(levels, slice(1, None)) for levels in grid[:2]), schedule)
        first = take(grid.t, 0)
    y = z / first.alpha
    for i in range(grid.steps):
        t, s = take(grid.t, i), take(grid.s, i)
        eps = (y * t.alpha - t.alpha * bimodal.denoise(y * t.alpha, t)) / t.sigma
        y = y + (s.ratio - t.ratio) * eps
    last = take(grid.s, -1)
    for sampler in (ddim, euler):
        out = reading(sampler(grid), bimodal.denoise, z)
        np.testing.assert_allclose(out, y * last.alpha, rtol=1e-7, atol=1e-9)


def test_ddim_at_eta_one_is_ancestral(schedule, spacing):
    grid = make_grid(schedule, 25, spacing)
    a, b = ddim(grid, eta=1.0), ancestral(grid, variance="small")
    for name in ("z_coef", "x_coef", "noise_coef"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-7, atol=1e-12)


def test_ancestral_full_table_is_ddpm_algorithm_two():
    """z' = (z - beta / sigma eps) / sqrt(1 - beta) + sqrt(beta) noise (Ho et al. 2020)."""
    table = Linear()
    rows = ancestral(make_grid(table, 1000), variance="large")
    beta, bar = table.betas()[::-1], table.alphas_cumprod[::-1]
    # With eps = (z - alpha x) / sigma: coefficients of z and of x_hat.
    scale = 1 / np.sqrt(1 - beta)
    np.testing.assert_allclose(rows.z_coef[:-1], (scale * (1 - beta / (1 - bar)))[:-1], rtol=1e-7)
    np.testing.assert_allclose(rows.x_coef, scale * beta / (1 - bar) * np.sqrt(bar), rtol=1e-7)
    np.testing.assert_allclose(rows.noise_coef[:-1], np.sqrt(beta)[:-1], rtol=1e-7)
    assert rows.noise_coef[-1] == 0 and rows.z_coef[-1] == 0


def test_a_point_is_reached_exactly(schedule, spacing, reading):
    """Data that is one point: every sampler lands on it, from any start."""
    grid = make_grid(schedule, 10, spacing)
    rng = np.random.default_rng(1)
    z = rng.standard_normal((5, 1)) * schedule.prior_std(take(grid.t, 0))
    for name, sampler in VARIANTS.items():
        rows = sampler(grid)
        noise = rng.standard_normal((rows.nfe, 5, 1))
        out = reading(rows, lambda z, at: np.full_like(z, 0.6), z, noise)
        np.testing.assert_allclose(out, 0.6, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("n", [5, 20])
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("ddpm", lambda n: n),
        ("ddim", lambda n: n),
        ("euler", lambda n: n),
        ("heun", lambda n: 2 * n - 1),
        ("dpmpp_2m", lambda n: n),
        ("plms", lambda n: n + 1),
        ("pndm", lambda n: n + 9),
    ],
)
def test_evaluations(name, count, n):
    assert SAMPLERS[name](make_grid(Linear(), n)).nfe == count(n)


def test_zero_terminal_snr_starts_from_pure_noise(bimodal, reading):
    """Lin et al. 2023: finite coefficients at alpha = 0, and the first step ignores z but for its
    direction."""
    grid = make_grid(ScaledLinear(zero_terminal_snr=True), 50, "trailing")
    z = np.random.default_rng(0).standard_normal((4000, 1))
    noise = np.random.default_rng(1).standard_normal((120, 4000, 1))
    for name, sampler in VARIANTS.items():
        rows = sampler(grid)
        assert all(np.all(np.isfinite(field)) for field in rows[1:-1]), name
        assert wasserstein(reading(rows, bimodal.denoise, z, noise)[:, 0], bimodal) < 0.08, name


@pytest.mark.parametrize("kind", [Linear(), Cosine(), VPSDE(), EDM(), RectifiedFlow()])
def test_encode_then_decode_returns(kind, bimodal, reading):
    """DDIM inversion: up the grid and down again; the error falls with the steps."""
    spacing = "leading" if isinstance(kind, RectifiedFlow) else "log_snr"
    x = bimodal.draw(64, seed=3)
    errors = []
    for steps in (25, 50, 100):
        grid = make_grid(kind, steps, spacing)
        start = x * take(grid.t, -1).alpha
        code = reading(ddim(inverse_grid(grid)), bimodal.denoise, start)
        back = reading(ddim(forward_grid(grid)), bimodal.denoise, code)
        errors.append(np.sqrt(np.mean((back - start) ** 2)))
    assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2]
    assert errors[2] < 0.06


def test_grids_run_from_noise_to_clean(schedule, spacing):
    grid = make_grid(schedule, 12, spacing)
    np.testing.assert_array_equal(grid.t.alpha[1:], grid.s.alpha[:-1])
    assert np.all(grid.s.logsnr > grid.t.logsnr)
    assert (grid.s.alpha[-1], grid.s.sigma[-1]) == (CLEAN.alpha, CLEAN.sigma)
    first = make_grid(schedule, 12, spacing, final="first")
    least = schedule.level(np.float64(schedule.t_min))
    assert first.s.sigma[-1] == pytest.approx(least.sigma)


def test_published_spacings():
    """Lin et al. 2023, table 2, for T = 1000 and 10 steps."""
    table = Linear()
    t = {name: visited(table, 10, name).t.tolist() for name in ("leading", "trailing", "linspace")}
    assert t["leading"] == [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]
    assert t["trailing"] == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]
    assert t["linspace"] == [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]
    assert visited(table, 10, "leading", offset=1).t.tolist() == [901 - 100 * i for i in range(10)]
    # Karras et al. 2022, eq. 5, for sigma in [0.002, 80], rho = 7, 18 steps: its ends and middle.
    sigma = visited(EDM(), 18, "karras").sigma
    middle = (80 ** (1 / 7) + 9 / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(sigma[[0, 9, 17]], [80, middle, 0.002], rtol=1e-9)


@pytest.mark.parametrize("spacing_name", sorted(RATIO_SPACINGS))
def test_ratio_spacings_are_exact_in_the_ratio(spacing_name):
    """A table's interpolated times do not move sigma / alpha off the formula."""
    level = visited(Linear(), 15, spacing_name)
    ends = Linear().level(np.array([999.0, 0.0])).ratio
    expected = RATIO_SPACINGS[spacing_name](*ends, 15)
    np.testing.assert_allclose(level.ratio, expected, rtol=1e-12)
    np.testing.assert_allclose(level.alpha**2 + level.sigma**2, 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: visited(Linear(), 10, "karas"), "'karas' is unknown; known: leading, .*karras"),
        (lambda: visited(Linear(), 1001, "leading"), "steps=1001: .* holds 1000"),
        (lambda: visited(Linear(), 0, "leading"), "steps=0: .* at least one"),
        (lambda: visited(Linear(), 10, "trailing", offset=1), "offset=1 .* leaves the table"),
        (lambda: visited(RectifiedFlow(), 10, "karras"), "'karras' needs signal at t_max"),
        (lambda: make_grid(Linear(), 10, final="zero"), "final='zero' is unknown; known: clean"),
        (lambda: ancestral(make_grid(Linear(), 10), "huge"), "'huge' is unknown; known: small"),
        (lambda: pndm(make_grid(Linear(), 3)), "pndm needs at least 4 steps"),
        (lambda: pndm(make_grid(RectifiedFlow(), 4)), "at least 5 steps on this grid .*got 4"),
        (lambda: ddim(make_grid(Linear(), 10), eta=1.5), "eta=1.5 .* take eta <= 1"),
    ],
)
def test_bad_choices_are_one_clear_line(build, message):
    with pytest.raises(ValueError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_registries_build_their_defaults():
    for kind in SCHEDULES.values():
        grid = make_grid(kind(), 6, "trailing")
        for sampler in SAMPLERS.values():
            rows = sampler(grid)
            assert all(np.all(np.isfinite(field)) for field in rows[1:-1])


def test_own_pairs_are_a_grid_too(bimodal, reading):
    """A reference's own pairing of times, here overlapping ones, is written down as it is."""
    table = Cosine()
    t, s = table.level(np.array([800.0, 500.0])), table.level(np.array([550.0, 200.0]))
    rows = ddim(Grid(t, s, table))
    z = np.ones((1, 1))
    for i in range(2):
        at, to = take(t, i), take(s, i)
        x = bimodal.denoise(z, at)
        z = to.alpha * x + to.sigma * (z - at.alpha * x) / at.sigma
    np.testing.assert_allclose(reading(rows, bimodal.denoise, np.ones((1, 1))), z, rtol=1e-12)
    assert ContinuousCosine().level(0.5).alpha == pytest.approx(0.5**0.5)
