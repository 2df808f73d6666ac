"""Resampling keeps constants and is adjoint to itself; embeddings follow their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.nn.embeddings import (
    LabelTable,
    fourier,
    fourier_frequencies,
    grid_positions,
    sinusoid,
)
from diffjax.nn.initialisers import INITS
from diffjax.nn.resampling import BOX, downsample, upsample

BINOMIAL = (1, 3, 3, 1)  # of NCSN++


@pytest.mark.parametrize("taps", [BOX, BINOMIAL])
def test_resampling_keeps_constants_inside(taps):
    x = jnp.full((1, 8, 8, 2), 3.0)
    inner = slice(2, -2)
    np.testing.assert_allclose(downsample(x, taps)[:, 1:-1, 1:-1], 3.0, rtol=1e-6)
    np.testing.assert_allclose(upsample(x, taps)[:, inner, inner], 3.0, rtol=1e-6)
    assert upsample(x, taps).shape == (1, 16, 16, 2)
    assert downsample(x, taps).shape == (1, 4, 4, 2)


@pytest.mark.parametrize("taps", [BOX, BINOMIAL])
def test_up_is_four_times_the_adjoint_of_down(taps):
    x = jax.random.normal(jax.random.key(0), (1, 8, 8, 1))
    y = jax.random.normal(jax.random.key(1), (1, 4, 4, 1))
    left = jnp.vdot(downsample(x, taps), y)
    right = jnp.vdot(x, upsample(y, taps)) / 4
    np.testing.assert_allclose(left, right, rtol=1e-4)


def test_box_is_repetition_and_mean():
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
    np.testing.assert_array_equal(upsample(x), x.repeat(2, axis=1).repeat(2, axis=2))
    np.testing.assert_allclose(downsample(upsample(x)), x, rtol=1e-6)


def test_sinusoid_conventions():
    t = jnp.array([0.0, 3.0])
    y = np.asarray(sinusoid(t, 8, "sin_endpoint"))
    freq = 10_000.0 ** -(np.arange(4) / 3)
    np.testing.assert_allclose(y[1], np.r_[np.sin(3 * freq), np.cos(3 * freq)], atol=1e-6)
    z = np.asarray(sinusoid(t, 8, "cos"))
    freq = 10_000.0 ** -(np.arange(4) / 4)
    np.testing.assert_allclose(z[1], np.r_[np.cos(3 * freq), np.sin(3 * freq)], atol=1e-6)
    with pytest.raises(ValueError, match="unknown time embedding"):
        sinusoid(t, 8, "sine")


def test_fourier_frequencies_are_fixed():
    f = fourier_frequencies(64, 16.0, seed=0)
    assert f == fourier_frequencies(64, 16.0, seed=0)
    assert 10 < np.std(f) < 22
    y = np.asarray(fourier(jnp.array([0.25]), (1.0, 2.0)))
    np.testing.assert_allclose(y[0], [1, 0, 0, -1], atol=1e-6)


def test_grid_positions_tell_cells_apart():
    p = grid_positions(3, 5, 16)
    assert p.shape == (15, 16)
    assert len(np.unique(p.round(5), axis=0)) == 15
    # The first half knows the column alone, the second the row alone.
    p = p.reshape(3, 5, 16)
    np.testing.assert_array_equal(p[0, :, :8], p[2, :, :8])
    np.testing.assert_array_equal(p[:, 0, 8:], p[:, 4, 8:])


def test_null_class_stands_in_for_no_label():
    table = LabelTable(3, 4, INITS["ddpm"])
    v = table.init(jax.random.key(0), None, 2)
    assert v["params"]["table"].shape == (4, 4)
    absent, null = table.apply(v, None, 2), table.apply(v, jnp.array([3, 3]), 2)
    np.testing.assert_array_equal(absent, null)
    strict = LabelTable(3, 4, INITS["ddpm"], null_class=False)
    with pytest.raises(ValueError, match="no null class"):
        strict.init(jax.random.key(0), None, 2)
