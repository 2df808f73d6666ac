"""How images come to a network's size: against Pillow, by hand, and by both kinds of array."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from diffjax.evals.resample import METHODS, Resample, bilinear, tensorflow


def pictures(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("size", [7, 20, 33])
def test_clean_equals_pillow(size):
    """Bicubic in floating point, widened when it shrinks, clipped: to float32's rounding."""
    x = pictures(20, 13, 3)
    expected = [
        np.asarray(Image.fromarray(x[..., c]).resize((size, size), Image.Resampling.BICUBIC))
        for c in range(3)
    ]
    clipped = np.clip(np.stack(expected, -1), -1, 1)
    np.testing.assert_allclose(Resample("clean", size)(x), clipped, atol=2e-6)


def test_bilinear_takes_pixel_centres_and_tensorflow_corners():
    """2 pixels to 4: centres lie at -1/4, 1/4, 3/4, 5/4; TensorFlow reads 0, 1/2, 1, 3/2."""
    np.testing.assert_allclose(bilinear(2, 4)[:, 1], [0, 0.25, 0.75, 1])
    np.testing.assert_allclose(tensorflow(2, 4)[:, 1], [0, 0.5, 1, 1])
    # Neither widens when it shrinks: every fourth pixel, or the two at its middle.
    half = [[0, 0.5, 0.5, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0.5, 0.5, 0]]
    np.testing.assert_allclose(bilinear(8, 2), half)
    np.testing.assert_allclose(tensorflow(8, 2), np.eye(8)[[0, 4]])


@pytest.mark.parametrize("method", METHODS)
def test_laws_of_every_method(method):
    """Constants stay, the size itself changes nothing, and both kinds of array agree."""
    for n, size in ((5, 11), (11, 5), (6, 6)):
        weights = METHODS[method](n, size)
        np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(METHODS[method](6, 6), np.eye(6), atol=1e-15)
    x = pictures(2, 9, 14, 3)
    resample = Resample(method, 12)
    on_host, on_device = resample(x), jax.jit(resample)(jnp.asarray(x))
    assert on_host.shape == (2, 12, 12, 3) and on_host.dtype == np.float32
    np.testing.assert_allclose(on_host, on_device, atol=1e-6)
    np.testing.assert_allclose(on_host[1], resample(x[1]), atol=1e-6)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="unknown resize 'bicubic'"):
        Resample("bicubic", 299)
