"""Rows say which level they go to: a denoiser that knows it steps there at once."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.diffusion.grids import RATIO_SPACINGS, SPACINGS, make_grid
from diffjax.diffusion.levels import Level, take
from diffjax.diffusion.samplers import SAMPLERS, ddim, dpmpp_2m, euler, heun, ode
from diffjax.diffusion.sampling import Estimate, sample
from diffjax.diffusion.schedules import Cosine, Linear, RectifiedFlow

MEAN, STD = 0.4, 0.5
VARIANTS = {
    **SAMPLERS,
    "ode_vp": partial(ode, clock="vp"),
    "ode_euler": partial(ode, order=1),
    "heun_churn": partial(heun, churn=10.0),
    "plms_v": partial(SAMPLERS["plms"], extrapolate="v"),
}
ONE_STAGE = {
    "ddim": ddim,
    "euler": euler,
    "ode": partial(ode, order=1),
    "dpmpp_2m": dpmpp_2m,
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("final", ["clean", "first"])
def test_a_row_goes_to_where_the_next_begins(name, final):
    several = name.startswith(("heun", "ode", "plms", "pndm")) and name != "ode_euler"
    for spacing in (*SPACINGS, *RATIO_SPACINGS):
        grid = make_grid(Linear(), 7, spacing, final=final)
        rows = VARIANTS[name](grid)
        # The level at which a row finds its state, before churn, is the one where it was left.
        found = (rows.at.alpha / rows.scale, np.sqrt(rows.at.sigma**2 - rows.churn**2) / rows.scale)
        for to, at in zip(rows.to[1:], found, strict=True):
            np.testing.assert_allclose(to[:-1], at[1:], rtol=1e-6, atol=1e-9)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(rows))
        plain = rows.churn[1:] == 0
        np.testing.assert_array_equal(rows.to.t[:-1][plain], rows.at.t[1:][plain])
        assert take(rows.to, -1) == take(grid.s, -1)
        # No row goes back to more noise, and one that stays is a stage or a corrector.
        assert np.all(rows.to.ratio <= rows.at.ratio * (1 + 1e-12))
        stays = rows.to.ratio >= rows.at.ratio
        assert not stays.any() or several or (final == "first" and stays.sum() == stays[-1] == 1)


def spread(level: Level):
    """Standard deviation of the noised Gaussian."""
    return jnp.sqrt((level.alpha * STD) ** 2 + level.sigma**2)


def flow(z, at, to):
    """The probability flow of the Gaussian from one level to another, exactly."""
    return to.alpha * MEAN + spread(to) / spread(at) * (z - at.alpha * MEAN)


def flow_map(z, at, to):
    """The estimate by which DDIM's step `alpha_s x + sigma_s / sigma_t (z - alpha_t x)` lands on
    the flow."""
    shrink = to.sigma / at.sigma
    return Estimate((flow(z, at, to) - shrink * z) / (to.alpha - shrink * at.alpha))


def ordinary(z, at, to):
    """The exact denoiser, which does not know where the step goes."""
    return Estimate(MEAN + at.alpha * STD**2 / spread(at) ** 2 * (z - at.alpha * MEAN))


@pytest.mark.parametrize(
    "schedule", [Cosine(), Linear(), RectifiedFlow()], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize(("name", "steps"), [*((n, 1) for n in ONE_STAGE), ("ddim", 4), ("ode", 3)])
def test_a_flow_map_lands_exactly(schedule, name, steps):
    grid = make_grid(schedule, steps)
    z = jnp.asarray(np.random.default_rng(0).standard_normal((64, 1)), jnp.float32)
    first = Level(*(jnp.float32(a) for a in take(grid.t, 0)))
    end = Level(*(jnp.float32(a) for a in take(grid.s, -1)))
    keys = jax.random.split(jax.random.key(0), len(z))
    rows = ONE_STAGE[name](grid)
    got = sample(flow_map, rows, z, keys)
    np.testing.assert_allclose(got, flow(z, first, end), atol=2e-5)
    assert np.abs(sample(ordinary, rows, z, keys) - got).max() > 0.05


def test_as_the_step_shrinks_a_flow_map_is_the_denoiser():
    z = jnp.asarray(np.random.default_rng(0).standard_normal((64, 1)), jnp.float32)
    at, to = (Level(jnp.float32(0), jnp.cos(a), jnp.sin(a)) for a in (0.8, 0.79))
    np.testing.assert_allclose(flow_map(z, at, to).x, ordinary(z, at, at).x, atol=0.02)
