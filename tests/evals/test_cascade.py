"""What a cascade is measured by: the same base samples, enlarged and upsampled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.evals import make_evaluator
from diffjax.evals.cascade import consistency, enlarged
from diffjax.evals.context import EvalContext
from diffjax.evals.features import FeatureExtractor
from diffjax.metrics.frechet import frechet_distance, moments

N, SIZE = 32, 8
rng = np.random.default_rng(0)
# Edges of single pixels, which nothing that is enlarged has.
REAL = np.where(rng.uniform(size=(2 * N, SIZE, SIZE, 1)) < 0.5, -1.0, 1.0).astype(np.float32)
SMALL = jnp.asarray(REAL[:N].reshape(N, 4, 2, 4, 2, 1).mean((2, 4)))


def extractor():
    """Mean, and the mean step from a pixel to the next."""

    def apply(weights, image):
        edges = [jnp.abs(jnp.diff(image, axis=a)).mean((1, 2, 3)) for a in (1, 2)]
        return jnp.stack([image.mean((1, 2, 3)), *edges], 1) * weights, None

    return FeatureExtractor(apply, np.ones(3, np.float32), "edges", quantise="none")


def sample_base(variables, seed, index, cond):
    return SMALL[index]


def results(sample):
    held = {"image": REAL}
    context = EvalContext({"sample": sample, "sample_base": sample_base}, held,
                          {"image": REAL[N:]}, extractor(), conditional=False)  # fmt: skip
    evaluator = make_evaluator("cascade", context, num_samples=N, batch_size=8, groups=4)
    return list(evaluator.run({}))


def values(found):
    return {r.name: r.value for r in found if hasattr(r, "value")}


def test_samples_are_of_the_base_images_that_are_enlarged():
    seen = []

    def sample(variables, seed, index, cond):
        jax.debug.callback(lambda i, x: seen.append((i, x)), index, cond["low_resolution"])
        return jnp.asarray(REAL)[index]

    found = results(sample)
    jax.effects_barrier()
    assert len(seen) == N // 8
    for index, small in seen:
        np.testing.assert_array_equal(small, SMALL[np.asarray(index)])
    assert [r.name for r in found][-1] == "cascade"  # the picture


def test_distances_are_those_of_the_features():
    got = values(results(lambda v, s, index, c: jnp.asarray(REAL)[index]))
    extract = extractor()
    reference = moments(extract(REAL).features)
    bicubic = enlarged(np.asarray(SMALL), (SIZE, SIZE))
    for name, images in (("frechet", REAL[:N]), ("frechet_bicubic", bicubic),
                         ("frechet_real", REAL[N:])):  # fmt: skip
        wanted = frechet_distance(moments(extract(images).features), reference)
        assert got[name] == pytest.approx(wanted, rel=1e-5)
    assert got["frechet_ratio"] == pytest.approx(got["frechet"] / got["frechet_bicubic"])
    assert got["frechet_ratio"] < 0.1


def test_a_cascade_that_enlarges_is_no_better_than_enlarging():
    grow = lambda small: jax.image.resize(small, (len(small), SIZE, SIZE, 1), "cubic")  # noqa: E731
    got = values(results(lambda v, s, index, c: jnp.clip(grow(c["low_resolution"]), -1, 1)))
    assert got["frechet_ratio"] == pytest.approx(1.0, rel=1e-4)


def test_consistency_is_the_psnr_to_the_base():
    small, noise = np.asarray(SMALL), 0.1 * rng.standard_normal((N, 4, 4, 1))
    large = np.repeat(np.repeat(0.5 * small + noise, 2, 1), 2, 2)
    value, std = consistency(small * 0.5, large)
    error = np.square(noise / 2).mean()
    assert value == pytest.approx(-10 * np.log10(error), abs=1e-6)
    assert 0 < std < 1
    assert consistency(small, np.repeat(np.repeat(small, 2, 1), 2, 2))[0] == pytest.approx(120)
