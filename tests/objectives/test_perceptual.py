"""The distance of maps: of directions along the channels, and of nothing else."""

import jax
import numpy as np

from diffjax.objectives import perceptual

layer_distance = jax.jit(perceptual.layer_distance)
RANDOM = np.random.default_rng(0)


def maps(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def test_without_weights_it_is_twice_one_minus_the_cosine():
    a, b = maps(3, 4, 5, 6), maps(3, 4, 5, 6)
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    cosine = (x * y).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)
    np.testing.assert_allclose(layer_distance(a, b), (2 - 2 * cosine).mean((1, 2)), rtol=1e-5)


def test_lengths_do_not_count_and_weights_do():
    a, b = maps(2, 3, 3, 4), maps(2, 3, 3, 4)
    np.testing.assert_allclose(
        layer_distance(3 * a, np.float32(0.1) * b), layer_distance(a, b), rtol=1e-5
    )
    assert float(layer_distance(a, 2 * a).max()) < 1e-10
    each = [np.asarray(layer_distance(a, b, np.eye(4, dtype=np.float32)[i])) for i in range(4)]
    np.testing.assert_allclose(sum(each), layer_distance(a, b), rtol=1e-5)
    weighed = layer_distance(a, b, np.arange(4, dtype=np.float32))
    np.testing.assert_allclose(weighed, sum(i * e for i, e in enumerate(each)), rtol=1e-5)


def test_a_place_where_nothing_fires_has_a_gradient():
    a, b = maps(1, 2, 2, 3), maps(1, 2, 2, 3)
    b[0, 0, 0] = 0
    slope = jax.jit(jax.grad(lambda b: layer_distance(a, b).sum()))(b)
    assert np.isfinite(slope).all()
