"""Position tables on another grid: what they say of a place stays."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.nn.positions import resize_positions


def table(side: int) -> np.ndarray:
    """A token's row, and the row and column of every patch's centre in [0, 1]."""
    at = (np.arange(side) + 0.5) / side
    grid = np.stack(np.meshgrid(at, at, indexing="ij"), -1).reshape(-1, 2)
    return np.concatenate([[[7.0, -7.0]], grid]).astype(np.float32)


@pytest.mark.parametrize("side", [7, 12])
def test_a_linear_field_stays_linear_inside(side):
    got = np.asarray(resize_positions(table(8), side))
    expected = table(side)
    assert got.shape == expected.shape
    np.testing.assert_array_equal(got[0], expected[0])
    inside = np.s_[3:-3, 3:-3]
    grids = (x[1:].reshape(side, side, 2)[inside] for x in (got, expected))
    np.testing.assert_allclose(*grids, atol=1e-2)


def test_the_same_grid_is_untouched_and_another_table_refused():
    np.testing.assert_array_equal(resize_positions(table(8), 8), table(8))
    with pytest.raises(ValueError, match="no square grid"):
        resize_positions(jnp.zeros((8, 2)), 4)
