"""The report's kernel distance of a perfect class-conditional model: nothing, to within its bar."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.evals import make_evaluator
from diffjax.evals.compare import Settings, compare
from diffjax.evals.context import EvalContext
from diffjax.evals.features import Extracted, FeatureExtractor, to_uint8
from diffjax.evals.reference import write_reference
from diffjax.evals.sides import FeatureSet
from diffjax.metrics.frechet import moments
from diffjax.results import Result

CLASSES, SIDE = 8, 4
SHARE = np.arange(1, CLASSES + 1) / (CLASSES * (CLASSES + 1) / 2)


# Classes that lie far apart.
PICTURE = np.random.default_rng(9).uniform(-0.7, 0.7, (CLASSES, SIDE, SIDE, 1)).astype(np.float32)


def images(seed, label):
    """The picture of each class, and noise."""
    noise = np.random.default_rng(seed).standard_normal((len(label), SIDE, SIDE, 1), np.float32)
    return PICTURE[label] + 0.1 * noise


@jax.jit
def perfect(variables, seed, index, label):
    """The very distribution of the data, each sample by its own draws."""
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(index)
    noise = jax.vmap(lambda key: jax.random.normal(key, (SIDE, SIDE, 1)))(keys)
    return jnp.asarray(PICTURE)[label] + 0.1 * noise + variables["shift"]


def split(seed, n, even):
    label = np.arange(n) % CLASSES
    if not even:
        label = np.random.default_rng(seed).choice(CLASSES, n, p=SHARE)
    return {"image": images(100 + seed, label), "label": label.astype(np.int32)}


def context(even):
    flat = FeatureExtractor(lambda w, x: (20 * x.reshape(len(x), -1),), {"w": np.zeros(1)}, "flat")
    return EvalContext({"sample": perfect}, split(0, 300, even), split(1, 120, even), flat)


@pytest.mark.parametrize("even", [True, False])
def test_a_perfect_model_is_at_zero_whatever_the_data_hold_of_each_class(even):
    made = make_evaluator(
        "generation", context(even), num_samples=160, seeds=(0, 1, 2), groups=4, batch_size=160
    )
    run = lambda shift: {  # noqa: E731
        r.name: r for r in made.run({"shift": jnp.float32(shift)}) if isinstance(r, Result)
    }
    got = run(0.0)
    for name in ("kernel", "kernel_real"):
        assert got[name].std > 0 and abs(got[name].value) < 4 * got[name].std, name
    assert "seeds" not in got["kernel_real"].protocol and "seeds" in got["kernel"].protocol
    assert run(0.1)["kernel"].value > 8 * got["kernel"].std


def test_kid_of_the_papers_protocol_knows_its_classes(tmp_path):
    """Against images without labels, drawn at random."""
    even = context(True)
    label = np.random.default_rng(0).integers(CLASSES, size=400)
    real = to_uint8(images(5, label))
    write_reference(tmp_path / "real.npz", moments(even.features.pixels(real).features), None, real)
    made = make_evaluator(
        "fid", even, reference=str(tmp_path / "real.npz"), metrics=("kid",), num_samples=80,
        settings={"subset_size": 80, "subsets": 5},
    )  # fmt: skip
    kid = next(iter(made.run({"shift": jnp.float32(0)})))
    assert abs(kid.value) < 3 * kid.std
    features = even.features
    drawn = perfect({"shift": 0.0}, 0, np.arange(80), np.arange(80) % CLASSES)
    a = FeatureSet("a", "a", None, rows=Extracted(features(drawn).features))
    b = FeatureSet("b", "b", None, rows=Extracted(features.pixels(real).features))
    plain = next(iter(compare(["kid"], Settings(subset_size=80, subsets=5), a, b, {})))
    gap = _alikeness(a.rows.features)
    assert kid.value - plain.value == pytest.approx(gap / 79, rel=1e-6)
    assert gap / 79 > 3 * kid.std  # what was shown for nothing


def _alikeness(x):
    """How much more alike two rows of a class are than two of the mixture, by the kernel."""
    k = (x.astype(np.float64) @ x.T / x.shape[1] + 1) ** 3
    label = np.arange(len(x)) % CLASSES
    own = (label[:, None] == label) & ~np.eye(len(x), dtype=bool)
    same = k[own].mean()
    other = k[label[:, None] != label].mean()
    return same - (same + (CLASSES - 1) * other) / CLASSES
