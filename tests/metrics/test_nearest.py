"""Laws of nearest neighbours and of the copy ratio."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from diffjax.metrics.nearest import copy_ratio, nearest


def test_equals_a_sort_of_all_distances():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(23, 4)), rng.normal(size=(31, 4))
    d = cdist(x, y)
    got = nearest(x, y, k=5, rows=7)
    np.testing.assert_array_equal(got.index, np.argsort(d, axis=1)[:, :5])
    np.testing.assert_allclose(got.distance, np.sort(d, axis=1)[:, :5], rtol=1e-12)
    with pytest.raises(ValueError, match=r"k must lie in 1 \.\. 31"):
        nearest(x, y, k=32)


def test_copies_are_at_zero_and_new_draws_at_one():
    rng = np.random.default_rng(1)
    train, held_out, fresh = rng.normal(size=(3, 2000, 3)) + 1e3
    assert copy_ratio(train[::2], held_out, train) == 0.0
    assert copy_ratio(fresh, held_out, train) == pytest.approx(1.0, abs=0.06)
    # Half of the way back to the nearest training point: half of the distance.
    near = train[nearest(fresh, train).index[:, 0]]
    assert copy_ratio((fresh + near) / 2, fresh, train) == pytest.approx(0.5)
