"""Pools of 3 x 3 by slices equal the windows, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from diffjax.nn.pooling import average_pool, max_pool


@pytest.fixture
def x():
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 8, 3)), jnp.float32)


@pytest.mark.parametrize("stride, pad", [(2, False), (1, True), (1, False)])
def test_the_largest_of_each_window(x, stride, pad):
    expected = nn.max_pool(x, (3, 3), (stride, stride), "SAME" if pad else "VALID")
    np.testing.assert_array_equal(max_pool(x, stride, pad), expected)
    # An even length leaves the last pixel out, where windows must be whole.
    assert max_pool(x, 2, False).shape == (2, 4, 3, 3)


def test_the_mean_leaves_the_padding_out(x):
    expected = nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)
    np.testing.assert_allclose(average_pool(x), expected, atol=1e-6)
    np.testing.assert_allclose(average_pool(jnp.ones((1, 5, 6, 2))), 1.0, rtol=1e-6)


def test_gradients_are_those_of_the_windows(x):
    def theirs(x):
        return (
            nn.max_pool(x, (3, 3), (2, 2), "VALID").sum()
            + jnp.square(nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)).sum()
        )

    def ours(x):
        return max_pool(x, 2, False).sum() + jnp.square(average_pool(x)).sum()

    gradients = [jax.jit(jax.grad(f))(x) for f in (ours, theirs)]
    np.testing.assert_allclose(*gradients, atol=1e-5)
