"""The scan runs the table as it is written; a sample is a function of its own key alone."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.diffusion.grids import make_grid
from diffjax.diffusion.levels import take
from diffjax.diffusion.samplers import ancestral, ddim, dpmpp_2m, heun, plms, pndm
from diffjax.diffusion.sampling import Estimate, initial_noise, sample
from diffjax.diffusion.schedules import EDM, VPSDE, Cosine, Linear, RectifiedFlow
from diffjax.keys import normal, per_row, stream

VARIANTS = {
    "ddpm": ancestral,
    "ddim": ddim,
    "ddim-eta": partial(ddim, eta=0.7),
    "heun": heun,
    "heun-churn": partial(heun, churn=10.0),
    "dpmpp_2m": dpmpp_2m,
    "sde-dpmpp_2m": partial(dpmpp_2m, stochastic=True),
    "plms": plms,
    "pndm": pndm,
}


ROWS = jax.jit(per_row)


def keys_of(index, seed=0):
    return ROWS(jax.random.key(seed), np.asarray(index))


def draws(keys, rows, shape):
    """The noise that `sample` will draw, `[N, B, *shape]` float64."""
    return np.asarray(_draws(keys, rows.nfe, shape), float)


@partial(jax.jit, static_argnums=(1, 2))
def _draws(keys, count, shape):
    noise_keys = jax.vmap(lambda k: stream(k, "sampler"))(keys)
    fold = jax.vmap(jax.random.fold_in, in_axes=(0, None))
    return jax.lax.map(lambda i: normal(fold(noise_keys, i), shape), jnp.arange(count))


def scanned(estimate, rows, z, keys, **options):
    """`sample`, compiled."""
    return jax.jit(lambda z, keys: sample(estimate, rows, z, keys, **options))(z, keys)


def first(grid, keys, shape):
    """`initial_noise`, compiled."""
    return np.asarray(jax.jit(lambda keys: initial_noise(grid, keys, shape))(keys))


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_scan_equals_the_float64_reading(name, plane, reading):
    """float32 in a scan against float64 in a loop, same draws: from full noise on cosine, where
    rounding has most to multiply."""
    grid = make_grid(Cosine(), 12)
    rows, keys = VARIANTS[name](grid), keys_of(range(6))
    z = first(grid, keys, (2,))
    noise = draws(keys, rows, (2,)) if rows.stochastic else None
    exact = reading(rows, plane.denoise, z, noise)
    quick = scanned(plane.estimate, rows, z, keys)
    np.testing.assert_allclose(quick, exact, atol=5e-5)


@pytest.mark.parametrize("name", ["ddpm", "heun-churn"])
def test_a_sample_does_not_know_its_batch(name, plane):
    grid = make_grid(Linear(), 8)
    rows = VARIANTS[name](grid)

    @jax.jit
    def run(index):
        keys = per_row(jax.random.key(0), index)
        return sample(plane.estimate, rows, initial_noise(grid, keys, (2,)), keys)

    whole = run(np.arange(64))
    parts = np.concatenate([run(np.arange(i, i + 16)) for i in range(0, 64, 16)])
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert np.unique(np.round(whole, 4), axis=0).shape[0] == 64


def test_noise_differs_by_row_sample_and_seed(plane):
    rows = ancestral(make_grid(Linear(), 6))
    noise = draws(keys_of(range(5)), rows, (3,))
    other = draws(keys_of(range(5), seed=1), rows, (3,))
    assert np.unique(np.concatenate([noise, other]).ravel()).size == 2 * noise.size


@pytest.mark.parametrize("schedule", [Linear(), EDM(), RectifiedFlow(), VPSDE()])
def test_prior_has_the_spread_of_the_first_level(schedule):
    grid = make_grid(schedule, 5, "trailing")
    z = first(grid, keys_of(range(4000)), (4,)).astype(np.float64)
    expected = float(schedule.prior_std(take(grid.t, 0)))
    assert z.std() == pytest.approx(expected, rel=0.02)
    assert abs(z.mean()) < 0.03 * expected


def test_trajectory_is_the_way_to_the_sample(plane):
    grid = make_grid(Cosine(), 7)
    rows, keys = heun(grid), keys_of(range(3))
    z = first(grid, keys, (2,))
    plain = scanned(plane.estimate, rows, z, keys)
    last, states, estimates = scanned(plane.estimate, rows, z, keys, trajectory=True)
    np.testing.assert_array_equal(last, plain)
    np.testing.assert_array_equal(states[-1], last)
    assert states.shape == estimates.shape == (rows.nfe, 3, 2)
    # The step to the clean end returns its estimate.
    np.testing.assert_allclose(estimates[-1], last, atol=1e-6)


@pytest.mark.parametrize(("v", "variance"), [(1.0, "large"), (-1.0, "small")])
def test_learned_variance_at_its_ends_is_fixed(v, variance, plane):
    """Nichol & Dhariwal 2021, eq. 15: v = 1 is beta, v = -1 is beta-tilde."""
    grid, keys = make_grid(Cosine(), 10), keys_of(range(5))
    z = first(grid, keys, (2,))

    def with_v(z, level, to):
        x = plane.denoise(z, level)
        return Estimate(x, jnp.full_like(x, v))

    learned = scanned(with_v, ancestral(grid, variance="learned"), z, keys)
    fixed = scanned(plane.estimate, ancestral(grid, variance=variance), z, keys)
    np.testing.assert_allclose(learned, fixed, atol=2e-5)


def test_learned_variance_interpolates_its_logarithm(plane):
    grid = make_grid(Linear(), 10)
    small = ancestral(grid, "small").noise_coef[:-1]
    large = ancestral(grid, "large").noise_coef[:-1]
    logs = ancestral(grid, "learned").log_variance[:-1]
    np.testing.assert_allclose(np.exp(logs.mean(1) / 2), np.sqrt(small * large), rtol=1e-9)


def test_learned_variance_needs_a_network_that_has_it(plane):
    grid, keys = make_grid(Linear(), 5), keys_of(range(2))
    with pytest.raises(ValueError, match=r"learned_variance=True.*predicts the image alone"):
        sample(plane.estimate, ancestral(grid, "learned"), initial_noise(grid, keys, (2,)), keys)


def test_half_precision_networks_are_sampled_in_float32(plane):
    grid, keys = make_grid(Cosine(), 20), keys_of(range(4))
    z = first(grid, keys, (2,))

    def rounded(z, level, to):
        return Estimate(plane.denoise(z, level).astype(jnp.bfloat16))

    out = scanned(rounded, dpmpp_2m(grid), z, keys)
    assert out.dtype == jnp.float32
    exact = scanned(plane.estimate, dpmpp_2m(grid), z, keys)
    np.testing.assert_allclose(out, exact, atol=0.03)
