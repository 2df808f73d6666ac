"""Likelihoods of images: masses sum to one, densities are scipy's, draws follow them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from diffjax.keys import per_row
from diffjax.objectives.likelihoods import (
    LEAST_LOG_SCALE,
    Bernoulli,
    Decoded,
    DiscretisedLogistic,
    Gaussian,
    bits_per_dim,
    snap,
)

SNAP = jax.jit(snap, static_argnums=1)
RNG = np.random.default_rng(0)
SHAPE = (4, 3, 1)
LOCATION = RNG.normal(0, 0.6, (5, *SHAPE)).astype(np.float32)
LOG_SCALE = RNG.uniform(-4, 0, (5, *SHAPE)).astype(np.float32)
IMAGE = RNG.uniform(-1, 1, (5, *SHAPE)).astype(np.float32)
KEYS = jax.jit(per_row)(jax.random.key(0), np.arange(5))


@functools.cache
def compiled(likelihood, name):
    return jax.jit(getattr(likelihood, name))


def run(likelihood, name, *args):
    """A method's result as numpy's."""
    return np.asarray(compiled(likelihood, name)(*args))


def keys_of(seed, count):
    return jax.jit(per_row)(jax.random.key(seed), np.arange(count))


def values(levels):
    return (2 * np.arange(levels) / (levels - 1) - 1).astype(np.float32)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("log_scale", [1.0, -2.0, -5.0, LEAST_LOG_SCALE, -20.0])
def test_the_discretised_logistic_sums_to_one(levels, log_scale):
    location = np.linspace(-1.3, 1.3, 41, dtype=np.float32)[:, None]
    target = np.broadcast_to(values(levels), (41, levels))
    decoded = Decoded(location, np.float32(log_scale))
    mass = np.exp(run(DiscretisedLogistic(levels), "log_mass", decoded, target))
    np.testing.assert_allclose(mass.sum(1), 1.0, atol=2e-4)
    assert (mass >= 0).all()


def test_the_discretised_logistic_is_a_difference_of_distribution_functions():
    """In float64; and where float32 has no difference, both ends of a bin being far in one tail."""
    target = np.asarray(SNAP(IMAGE, 256))
    got = run(DiscretisedLogistic(256), "log_mass", Decoded(LOCATION, LOG_SCALE), target)
    x, half = np.asarray(target, np.float64), 1 / 255
    scale = np.exp(LOG_SCALE.astype(np.float64))
    high, low = ((x - LOCATION + side) / scale for side in (half, -half))
    # log(F(b) - F(a)) by the survival function where both ends lie above.
    sign = np.where(x > LOCATION, -1, 1)
    one, two = special.log_expit(sign * high), special.log_expit(sign * low)
    upper, lower = np.maximum(one, two), np.minimum(one, two)
    expected = upper + np.log(-np.expm1(lower - upper))
    assert np.abs(x).max() < 1 - half  # no open end among these
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)
    far = Decoded(np.full((1, 1), 0.9, np.float32), np.float32(-6.5))
    below = np.full((1, 1), -0.9, np.float32)
    assert np.isfinite(run(DiscretisedLogistic(256), "log_mass", far, below)).all()


def test_the_logistic_has_gradients_wherever_a_pixel_lies():
    def nats(location, log_scale, target):
        decoded = Decoded(location[None], log_scale[None])
        return DiscretisedLogistic(256).log_prob(decoded, target[None])[0]

    grads = jax.jit(jax.vmap(jax.grad(nats, (0, 1))))
    target = values(256)
    for location, log_scale in ((0.0, -6.9), (1.2, -6.9), (-0.7, 0.5)):
        given = (np.full(256, a, np.float32) for a in (location, log_scale))
        d_location, d_scale = jax.device_get(grads(*given, target))
        assert np.isfinite(d_location).all() and np.isfinite(d_scale).all()
        # The location is drawn towards the pixel, and by an open bin outwards for ever.
        towards = np.sign(target - location)
        towards[[0, -1]] = -1, 1
        off = np.abs(target - location) > 0.02
        assert (d_location * towards >= 0)[off].all()
        assert (d_location * towards > 0)[1:-1][off[1:-1]].all()


def test_the_gaussian_is_scipys():
    for likelihood, std in ((Gaussian(), np.exp(LOG_SCALE)), (Gaussian(std=0.3), 0.3)):
        target = run(likelihood, "target", IMAGE, KEYS)
        got = run(likelihood, "log_prob", Decoded(LOCATION, LOG_SCALE), target)
        expected = stats.norm.logpdf(IMAGE, LOCATION, std).reshape(5, -1).sum(1)
        np.testing.assert_allclose(got, expected, rtol=1e-4)
        assert got.shape == (5,) and got.dtype == jnp.float32


def test_dequantised_density_averages_to_the_mass_of_the_bin():
    """So that the mean of the logs, which is reported, is a bound on the log of the mass."""
    likelihood, count = Gaussian(levels=9), 40_000
    image = np.full((count, 1), 0.25, np.float32)
    target = run(likelihood, "target", image, keys_of(1, count))
    assert target.min() >= 0.125 and target.max() <= 0.375 and target.std() > 0.07
    decoded = Decoded(np.full((count, 1), 0.1, np.float32), np.log(np.float32(0.1)))
    log_p = run(likelihood, "log_prob", decoded, target).astype(np.float64)
    mass = np.diff(stats.norm.cdf([0.125, 0.375], 0.1, 0.1))[0]
    assert abs(np.exp(log_p).mean() - mass) < 5 * np.exp(log_p).std() / np.sqrt(count)
    assert log_p.mean() < np.log(mass)


def test_bernoulli_is_the_cross_entropy_of_its_target():
    logits = 3 * LOCATION
    target = run(Bernoulli(), "target", IMAGE, KEYS)
    np.testing.assert_array_equal(target, np.where(IMAGE > 0, 1, -1))
    p = special.expit(logits.astype(np.float64))
    expected = np.where(IMAGE > 0, np.log(p), np.log1p(-p)).reshape(5, -1).sum(1)
    got = run(Bernoulli(), "log_prob", Decoded(logits, None), target)
    np.testing.assert_allclose(got, expected, 1e-5)


def test_sampled_binarisation_keeps_the_grey_on_average():
    count = 20_000
    image = np.tile(np.array([-1, -0.5, 0.2, 1], np.float32), (count, 1))
    target = run(Bernoulli("sample"), "target", image, keys_of(2, count))
    assert set(np.unique(target)) == {-1, 1}
    np.testing.assert_allclose(target.mean(0), image[0], atol=0.03)


@pytest.mark.parametrize(
    "likelihood",
    [DiscretisedLogistic(5), Bernoulli(), Gaussian(levels=5), Gaussian(0.2)],
    ids=["logistic", "bernoulli", "levels", "gaussian"],
)
def test_draws_follow_the_likelihood(likelihood):
    count = 20_000
    keys = keys_of(3, count)
    decoded = Decoded(np.full((count, 1), 0.15, np.float32), np.float32(-1.6))
    drawn = run(likelihood, "draw", decoded, keys)
    assert drawn.shape == (count, 1) and np.abs(drawn).max() <= 1
    if isinstance(likelihood, DiscretisedLogistic):
        found = [(np.abs(drawn - v) < 1e-6).mean() for v in values(5)]
        few = Decoded(decoded.location[:5], decoded.log_scale)
        mass = np.exp(run(likelihood, "log_prob", few, values(5)[:, None]))
        np.testing.assert_allclose(found, mass, atol=0.02)
    elif likelihood.discrete:
        assert len(np.unique(drawn)) <= (2 if isinstance(likelihood, Bernoulli) else 5)
    mean = float(run(likelihood, "mean", decoded)[0, 0])
    assert abs(drawn.mean() - mean) < 0.02
    # Row by row: a part of the keys draws the same part.
    part = Decoded(decoded.location[7:9], decoded.log_scale)
    np.testing.assert_array_equal(run(likelihood, "draw", part, keys[7:9]), drawn[7:9])


def test_snapping_gives_the_nearest_level_and_leaves_levels_alone():
    found = np.asarray(SNAP(IMAGE, 17))
    assert np.abs(found - IMAGE).max() <= 1 / 16 + 1e-6
    assert np.abs(found[..., None] - values(17)).min(-1).max() < 1e-6
    np.testing.assert_allclose(SNAP(values(256), 256), values(256), atol=1e-6)


def test_bits_of_a_fair_coin():
    zero, one = np.zeros((2, 8), np.float32), np.ones((2, 8), np.float32)
    nats = run(Bernoulli(), "log_prob", Decoded(zero, None), one)
    np.testing.assert_allclose(bits_per_dim(nats, 8), 1.0, rtol=1e-6)


def test_wrong_options_are_one_line():
    with pytest.raises(ValueError, match=r"std=0.0 must be above 0"):
        Gaussian(std=0.0)
    with pytest.raises(ValueError, match="levels=1 must be at least 2"):
        DiscretisedLogistic(1)
    with pytest.raises(ValueError, match=r"model.scale='shared'"):
        Gaussian().log_prob(Decoded(LOCATION, None), IMAGE)
