"""Fingerprints, quantisation, batching and matched subsets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.batches import map_batches, padded_batches
from diffjax.evals.drawing import balanced_labels
from diffjax.evals.features import FeatureExtractor, from_classifier, quantised, to_uint8
from diffjax.evals.subsets import disjoint_subsets, shared_counts
from diffjax.fingerprints import fingerprint


def test_fingerprint_sees_every_value_shape_type_and_name():
    base = {"w": np.arange(6, dtype=np.float32)}
    others = [
        {"w": np.arange(6, dtype=np.float32) + np.float32(1e-6)},
        {"w": np.arange(6, dtype=np.float32).reshape(2, 3)},
        {"w": np.arange(6, dtype=np.int32)},
        {"v": np.arange(6, dtype=np.float32)},
    ]
    assert fingerprint(base) == fingerprint({"w": jnp.arange(6, dtype=jnp.float32)})
    assert len({fingerprint(t) for t in (base, *others)}) == 5


def test_quantisation_keeps_files_and_follows_its_convention():
    levels = np.arange(256)
    x = (levels / 127.5 - 1).astype(np.float32)
    np.testing.assert_array_equal(to_uint8(x, "round"), levels)
    np.testing.assert_array_equal(to_uint8(x, "edm"), levels)
    between = np.float32((100.7 - 127.5) / 127.5)
    assert [int(to_uint8(between, how)) for how in ("round", "floor", "edm")] == [101, 100, 101]
    assert [int(v) for v in to_uint8(np.array([-3.0, 3.0]))] == [0, 255]
    assert quantised(between, "none") == between
    with pytest.raises(ValueError, match="unknown quantise 'nearest'"):
        FeatureExtractor(lambda w, x: (x, None), {}, "x", quantise="nearest")


def test_real_images_pass_unchanged_under_every_convention():
    """A level a rounding error low, as some decoders leave it, must not fall to the next."""
    x = (np.arange(256) / 127.5 - 1).astype(np.float32).reshape(256, 1, 1, 1)
    low = np.nextafter(x, np.float32(-1))
    for how in ("round", "floor", "edm", "none"):
        extract = FeatureExtractor(lambda w, x: (x, None), {}, "pixels", quantise=how)
        got = extract(low, real=True).features[:, 0]
        np.testing.assert_allclose(got, x[:, 0, 0, 0], atol=1e-6)
    floored = FeatureExtractor(lambda w, x: (x, None), {}, "pixels", quantise="floor")(low)
    assert not np.allclose(floored.features[:, 0], x[:, 0, 0, 0], atol=1e-3)


def test_extraction_does_not_depend_on_the_batch_size():
    x = np.random.default_rng(0).uniform(-1, 1, (23, 4, 4, 1)).astype(np.float32)
    fns = {"features": lambda w, i: i.mean((1, 2)) * w, "logits": lambda w, i: i[:, 0, :3, 0]}
    few, many = (from_classifier(fns, jnp.float32(2), "c", batch_size=b)(x) for b in (5, 64))
    assert few.features.shape == (23, 1) and few.logits.shape == (23, 3)
    np.testing.assert_allclose(few.features, many.features, rtol=1e-6)
    np.testing.assert_allclose(few.features[:, 0], 2 * quantised(x, "round").mean((1, 2, 3)), 1e-4)


def test_batches_cover_each_row_once():
    seen = []
    for batch in padded_batches({"x": np.arange(10)}, 4):
        assert len(batch["x"]) == len(batch["mask"]) == 4
        seen += batch["x"][batch["mask"]].tolist()
        np.testing.assert_array_equal(batch["x"], batch["index"])
    assert seen == list(range(10))
    with pytest.raises(ValueError, match="no examples"):
        map_batches(lambda b: b["x"], {"x": np.zeros(0)}, 4)


def test_batches_may_be_sharded():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    got = map_batches(jax.jit(lambda b: b["x"] * 2), {"x": np.arange(7.0)}, 4, sharding)
    np.testing.assert_array_equal(got, 2 * np.arange(7.0))


def test_longer_draws_start_the_same():
    long = balanced_labels(40, 10)
    np.testing.assert_array_equal(long[:23], balanced_labels(23, 10))
    assert (np.bincount(long) == 4).all()


def test_matched_subsets_are_disjoint_and_hold_the_shared_counts():
    rng = np.random.default_rng(0)
    a, b = np.arange(100) % 3, rng.integers(0, 3, 31)
    counts = shared_counts(a, b, 3)
    subsets = disjoint_subsets(a, counts, seed=0)
    assert len(subsets) == 33 // counts.max()
    joined = np.concatenate(subsets)
    assert len(set(joined.tolist())) == len(joined)
    for s in subsets:
        np.testing.assert_array_equal(np.bincount(a[s], minlength=3), counts)
    assert len(disjoint_subsets(b, counts, seed=0)) == 1
