"""Pictures resized as clean-fid resizes them, where it is installed:

    pip install --no-deps clean-fid

Its `resize` module needs PyTorch and Pillow alone, and is all that is imported here.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.data.resize import resize_short
from diffjax.evals.resample import Resample
from tests.evals.test_clean_and_cmmd import ringing, unit

pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")
theirs = pytest.importorskip(
    "cleanfid.resize", reason="needs clean-fid: pip install --no-deps clean-fid"
)

pytestmark = pytest.mark.parity
# Of float32 that is summed in another order, in levels of 0 .. 255.
ATOL = 2e-3


def pictures():
    rng = np.random.default_rng(0)
    yield ringing(40, 40)
    yield ringing(32, 57)
    yield ringing(700, 340)
    yield np.kron(ringing(60, 60), np.ones((8, 8, 1), np.uint8))  # twice 299 and more, in blocks
    for shape in ((32, 32), (299, 299), (512, 300), (1000, 777)):
        yield rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    yield np.full((50, 60, 3), 255, np.uint8)


def test_clean_equals_clean_fid_on_host_and_device():
    resize = theirs.build_resizer("clean")
    ours, overshot = Resample("clean", 299), 0.0
    on_device = jax.jit(ours)
    for pixels in pictures():
        expected = resize(pixels)
        for found in (ours(unit(pixels)), on_device(jnp.asarray(unit(pixels)))):
            levels = 127.5 * np.asarray(found, np.float64) + 127.5
            np.testing.assert_allclose(levels, expected, atol=ATOL)
        overshot = max(overshot, float(np.mean((expected == 0) | (expected == 255))))
    assert overshot > 0.2  # where nothing is cut off, the clip is not tested


@pytest.mark.parametrize("size", [17, 120, 299])
def test_other_sizes_and_the_quantised_variant(size):
    """`quantize_after` resizes 8-bit pictures in Pillow, as CMMD's code does: to the level."""
    plain = theirs.make_resizer("PIL", False, "bicubic", (size, size))
    rounded = theirs.make_resizer("PIL", True, "bicubic", (size, size))
    ours = Resample("clean", size)
    for pixels in pictures():
        np.testing.assert_allclose(127.5 * ours(unit(pixels)) + 127.5, plain(pixels), atol=ATOL)
        if pixels.shape[0] == pixels.shape[1]:
            np.testing.assert_array_equal(resize_short(pixels, size), rounded(pixels))


def test_legacy_pytorch_equals_ours():
    """The other resize of clean-fid that is a protocol here: no filter wide enough to overshoot."""
    resize, ours = theirs.build_resizer("legacy_pytorch"), Resample("bilinear", 299)
    for pixels in pictures():
        # PyTorch places pixels in float32.
        np.testing.assert_allclose(127.5 * ours(unit(pixels)) + 127.5, resize(pixels), atol=0.03)
