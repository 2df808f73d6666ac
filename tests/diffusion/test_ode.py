"""The probability flow by other clocks: one curve, other steps."""

from __future__ import annotations

import numpy as np
import pytest

from diffjax.diffusion.edm_time import CLOCKS
from diffjax.diffusion.grids import Grid, make_grid
from diffjax.diffusion.levels import Level
from diffjax.diffusion.ode import ode
from diffjax.diffusion.recipes import make_recipe
from diffjax.diffusion.samplers import euler, heun
from diffjax.diffusion.schedules import EDM, VPSDE, ContinuousCosine, Cosine

GRIDS = {
    "edm": make_grid(EDM(), 12, "karras"),
    "vp": make_grid(VPSDE(), 12, "linspace"),
    "cosine": make_grid(Cosine(), 12, "trailing"),  # begins without signal
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize(("order", "known"), [(1, euler), (2, heun)])
def test_the_linear_clock_is_euler_and_heun(grid, order, known, bimodal, reading):
    z = np.linspace(-2, 2, 9)[:, None] * np.hypot(grid.t.alpha[0], grid.t.sigma[0])
    ours = reading(ode(grid, "linear", order), bimodal.denoise, z)
    np.testing.assert_allclose(ours, reading(known(grid), bimodal.denoise, z), rtol=1e-9)


@pytest.mark.parametrize("name", CLOCKS)
def test_a_clock_is_its_own_derivative_and_inverse(name):
    clock = CLOCKS[name](80.0, 0.002)
    r = np.geomspace(0.002, 80, 30)
    np.testing.assert_allclose(clock.ratio(clock.time(r)), r, rtol=1e-9)
    up, down = r * (1 + 1e-5), r * (1 - 1e-5)
    dt = clock.time(up) - clock.time(down)
    np.testing.assert_allclose((np.log(up) - np.log(down)) / dt, clock.speed(r), rtol=1e-6)
    growth = (np.log(clock.scale(up)) - np.log(clock.scale(down))) / dt
    np.testing.assert_allclose(growth, clock.growth(r), rtol=1e-5, atol=1e-9)


def test_the_vp_clock_has_the_papers_betas_at_the_papers_ends():
    """Karras et al. 2022, table 1: beta_d = 19.9 and beta_min = 0.1 give VP's own range."""
    sigma = lambda t: np.sqrt(np.exp(19.9 * t**2 / 2 + 0.1 * t) - 1)  # noqa: E731
    clock = CLOCKS["vp"](sigma(1.0), sigma(1e-3))
    t = np.linspace(1e-3, 1, 20)
    np.testing.assert_allclose(clock.ratio(t), sigma(t), rtol=1e-7)


def by_the_letter(levels, denoise, x, clock, order):
    """Karras et al. 2022, algorithm 1, in `y = s x`: `sigma` falls to 0."""
    time = clock.time(levels)
    y = clock.scale(levels[0]) * x

    def slope(y, r):
        s = clock.scale(r)
        error = s * clock.speed(r) * (y / s - denoise(y / s, Level(r, 1.0, r)))
        return clock.growth(r) * y + error

    for i in range(len(levels) - 1):
        h = time[i + 1] - time[i]
        first = slope(y, levels[i])
        ahead = y + h * first
        if order == 2 and levels[i + 1] > 0:
            ahead = y + h * (first + slope(ahead, levels[i + 1])) / 2
        y = ahead
    return y


@pytest.mark.parametrize("path", [EDM(), VPSDE()], ids=["alpha=1", "alpha<1"])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", CLOCKS)
def test_a_step_is_the_papers_on_any_path(name, order, path, bimodal, reading):
    """The table is written in the model's own state z; the paper's in s x. They are one."""
    grid = make_grid(path, 15, "karras")
    clock = CLOCKS[name](grid.t.ratio[0], grid.t.ratio[-1])
    x = np.linspace(-2, 2, 9)[:, None] * grid.t.ratio[0]
    z = grid.t.alpha[0] * x
    levels = np.append(grid.t.ratio, 0.0)
    expected = by_the_letter(levels, bimodal.denoise, x, clock, order)
    np.testing.assert_allclose(
        reading(ode(grid, name, order), bimodal.denoise, z), expected, rtol=1e-8, atol=1e-9
    )


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", CLOCKS)
def test_every_clock_keeps_its_order(name, order, bimodal, reading):
    def ends(steps):
        grid = make_grid(ContinuousCosine(-5, 4), steps + 1, "log_snr")
        inner = Grid(*(Level(*(a[:-1] for a in level)) for level in grid[:2]), grid.schedule)
        z = np.linspace(-2, 2, 21)[:, None]
        return reading(ode(inner, name, order), bimodal.denoise, z)

    last = ends(2048)
    errors = [np.sqrt(np.mean((ends(n) - last) ** 2)) for n in (64, 128, 256)]
    found = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(found - order) < 0.35), found


def test_wrong_choices_are_one_line():
    grid = GRIDS["edm"]
    with pytest.raises(ValueError, match="order=3 is unknown"):
        ode(grid, order=3)
    with pytest.raises(ValueError, match="did you mean 've'"):
        ode(grid, clock="vee")
    with pytest.raises(ValueError, match="rho=3 with spacing='vp'"):
        make_recipe("ode", steps=4, spacing="vp", rho=3).rows(EDM())
    assert make_recipe("heun", steps=4, spacing="karras", rho=3).describe(EDM())["rho"] == 3
    assert "rho" not in make_recipe("heun", steps=4, spacing="karras").describe(EDM())


def test_rho_moves_the_steps_and_one_is_even():
    even = make_grid(EDM(), 9, "karras", rho=1.0).t.sigma
    np.testing.assert_allclose(np.diff(even), np.full(8, -79.998 / 8), rtol=1e-9)
    middle = [make_grid(EDM(), 9, "karras", rho=r).t.sigma[4] for r in (1.0, 3.0, 7.0)]
    assert middle[0] > middle[1] > middle[2]
