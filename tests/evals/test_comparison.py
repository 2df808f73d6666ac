"""Two sets by name of a metric: sides, statistics files, what lacks and what is degenerate."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.data.arrays import ArraySource
from diffjax.evals.compare import METRICS, Settings, compare
from diffjax.evals.features import Extracted, FeatureExtractor, dequantised
from diffjax.evals.reference import read_reference, write_reference
from diffjax.evals.released_features import clip_features, inception_features
from diffjax.evals.resample import Resample
from diffjax.evals.sides import CHUNK, FeatureSet, Running, measure
from diffjax.metrics.frechet import moments

HOW = {"extractor": "none"}
BOTH = ("fid", "sfid", "kid", "precision_recall", "density_coverage", "fid_infinity", "clip_fid",
        "cmmd")  # fmt: skip


def side(name, x, logits=None, texts=None):
    x = np.asarray(x, np.float32)
    return FeatureSet(name, name, moments(x), moments(x[:, :2]), Extracted(x, logits), texts)


def numbers(names, a, b, **settings):
    return {s.name: s for s in compare(names, Settings(**settings), a, b, HOW)}


def sets(n=60, m=50, dim=5, shift=0.0):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, dim)) + shift, rng.normal(size=(m, dim))


def test_every_metric_has_a_value_and_its_protocol():
    x, y = sets(shift=0.4)
    logits = np.random.default_rng(1).normal(size=(60, 7))
    a, b = side("a", x, logits, texts=x + 0.1), side("b", y)
    found = numbers(METRICS, a, b, subset_size=200, subsets=3, splits=2, seed=5, groups=6)
    assert set(found) == {
        *("fid", "sfid", "kid", "inception_score", "precision", "recall", "density", "coverage"),
        *("fid_infinity", "clip_fid", "cmmd", "clip_score"),
    }
    assert all(np.isfinite(s.value) for s in found.values())
    assert found["fid"].std > 0 and found["kid"].std >= 0 and found["clip_score"].std > 0
    kid, score = found["kid"].protocol, found["inception_score"].protocol
    assert (kid["subset_size"], kid["subsets"], kid["seed"]) == (50, 3, 5)  # of the smaller set
    assert kid["num_samples"] == 60 and kid["reference_size"] == 50 and kid["reference"] == "b"
    assert score["splits"] == 2 and "reference" not in score
    assert "splits" not in kid
    cosine = 100 * np.sum(x * (x + 0.1), 1) / np.linalg.norm(x, axis=1)
    expected = np.maximum(cosine / np.linalg.norm(x + 0.1, axis=1), 0).mean()
    assert found["clip_score"].value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n, dim", [(40, 5), (10, 64)])
def test_identical_sets_are_at_distance_zero(n, dim):
    """Also where there are fewer images than features."""
    x = 3 + sets(n=n, dim=dim)[0]
    found = numbers(("fid", "sfid", "clip_fid", "cmmd"), side("a", x), side("b", x))
    assert all(0 <= abs(s.value) < 1e-6 for s in found.values())


def test_degenerate_sets_give_a_value_or_an_error():
    """One direction alone, features that never change, a single image: nothing is NaN."""
    x, y = sets(n=20, m=20, dim=3)
    flat, line = np.ones((20, 3)), x[:, :1] * np.ones(3)
    for a in (flat, line, x):
        for b in (flat, line, y):
            logits = np.zeros((20, 4))
            found = numbers(METRICS, side("a", a, logits, texts=a), side("b", b), splits=20)
            assert all(np.isfinite(s.value) for s in found.values())
    assert numbers(["fid"], side("a", flat), side("b", 3 * flat))["fid"].value == pytest.approx(12)
    one = side("one", x[:1], np.zeros((1, 4)))
    for name in BOTH:
        with pytest.raises(ValueError) as error:
            numbers([name], one, side("b", y))
        assert "\n" not in str(error.value)
    broken = np.where(np.arange(20)[:, None] == 3, np.nan, x)
    with pytest.raises(ValueError, match=r"1 of 20 rows are not finite \(first: row 3\)"):
        moments(broken)
    zero = side("zero", np.zeros((5, 3)))
    with pytest.raises(ValueError, match="row 0 is zero"):
        numbers(["cmmd"], zero, side("b", y))


def test_what_a_side_lacks_is_said():
    x, y = sets()
    stated = FeatureSet("ref.npz", "f", moments(y))
    assert numbers(["fid", "fid_infinity"], side("a", x), stated).keys() == {"fid", "fid_infinity"}
    for name in ("kid", "precision_recall", "density_coverage", "cmmd"):
        with pytest.raises(ValueError, match=rf"{name} compares images one by one, but ref\.npz"):
            numbers([name], side("a", x), stated)
    with pytest.raises(ValueError, match=r"sfid needs spatial features, which ref\.npz"):
        numbers(["sfid"], side("a", x), stated)
    with pytest.raises(ValueError, match="inception_score needs an extractor with logits"):
        numbers(["inception_score"], side("a", x), stated)
    with pytest.raises(ValueError, match="clip_score compares images with their captions"):
        numbers(["clip_score"], side("a", x), stated)
    with pytest.raises(ValueError, match="unknown metric 'fld'; did you mean 'fid'"):
        numbers(["fld"], side("a", x), stated)


def test_statistics_files_of_others_and_ours(tmp_path):
    """pytorch-fid's and edm's, guided-diffusion's, with images beside them; ours read back."""
    x, y = map(moments, sets())
    np.savez_compressed(tmp_path / "fid.npz", mu=x.mean, sigma=x.cov)
    found = read_reference(tmp_path / "fid.npz")
    assert found.moments.count == 0 and found.spatial is None and found.protocol is None
    np.testing.assert_array_equal(found.moments.cov, x.cov)
    images = np.zeros((4, 8, 8, 3), np.uint8)
    arrays = dict(mu=x.mean, sigma=x.cov, mu_s=y.mean, sigma_s=y.cov, arr_0=images)
    np.savez(tmp_path / "adm.npz", **arrays, arr_1=np.arange(4))
    found = read_reference(tmp_path / "adm.npz")
    np.testing.assert_array_equal(found.spatial.mean, y.mean)
    np.testing.assert_array_equal(found.images, images)
    write_reference(tmp_path / "ours.npz", x, y, images, {"resize": "clean 299"})
    found = read_reference(tmp_path / "ours.npz")
    assert found.moments.count == 60 and found.protocol == {"resize": "clean 299"}
    with np.load(tmp_path / "ours.npz") as theirs:  # as the others read it: nothing is pickled
        np.testing.assert_array_equal(theirs["sigma_s"], y.cov)
        assert json.loads(str(theirs["protocol"])) == found.protocol


def test_statistics_that_are_none_are_refused(tmp_path):
    x = moments(sets()[0])
    eye = np.eye(5)
    skew = eye + np.triu(np.ones((5, 5)), 1)
    cases = {
        r"neither mu and sigma nor images": dict(a=x.mean),
        r"mu and sigma without the other": dict(mu=x.mean),
        r"mu \[5\], sigma \[5\]": dict(mu=x.mean, sigma=x.mean),
        r"mu or sigma is not finite": dict(mu=x.mean * np.nan, sigma=eye),
        r"sigma is not symmetric": dict(mu=x.mean, sigma=skew),
        r"arr_0 is float64 \[5\]": dict(arr_0=x.mean),
    }
    for said, arrays in cases.items():
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(ValueError, match=said):
            read_reference(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", mu=np.array([{"run": "me"}]), sigma=eye)
    with pytest.raises(ValueError, match=r"cannot be read as \.npz: .*allow_pickle"):
        read_reference(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"not a zip")
    with pytest.raises(ValueError, match=r"cannot be read as \.npz"):
        read_reference(tmp_path / "a.npz")


def test_moments_stream(monkeypatch):
    x = np.random.default_rng(3).normal(size=(CHUNK + 700, 4)) + 1e4
    running = Running()
    assert running.result() is None
    for part in np.split(x, [1, 300, 4000]):
        running.add(part)
    found, expected = running.result(), moments(x)
    assert found.count == expected.count
    np.testing.assert_allclose(found.cov, expected.cov, rtol=1e-8, atol=1e-8)


def flat_extractor(**kw):
    """Pixels themselves, and their first column for spatial features."""
    apply = lambda w, x: (x.reshape(len(x), -1), x[:, 0, :, 0], x[:, :, 0, 0])  # noqa: E731
    return FeatureExtractor(apply, {}, "pixels", batch_size=4, **kw)


def test_a_source_is_measured_in_batches():
    pixels = np.random.default_rng(0).integers(0, 256, (11, 3, 3, 3)).astype(np.uint8)
    progress = []
    found = measure("a", ArraySource(pixels), flat_extractor(), keep_rows=True, say=progress.append)
    x = pixels.reshape(11, -1) / 127.5 - 1
    assert progress == [4, 8, 11] and found.count == 11
    np.testing.assert_allclose(found.rows.features, x, atol=1e-6)
    np.testing.assert_allclose(found.moments.cov, np.cov(x, rowvar=False), atol=1e-6)
    assert found.spatial.mean.shape == (3,) and found.rows.spatial is None
    slim = measure("a", ArraySource(pixels), flat_extractor(), keep_rows=False)
    assert slim.rows is None and slim.count == 11
    np.testing.assert_array_equal(slim.moments.cov, found.moments.cov)


def test_images_of_several_sizes_meet_where_they_are_resized():
    """One by one on the host as in a batch on the device; refused where nothing resizes."""
    resample = Resample("clean", 6)
    extract = FeatureExtractor(lambda w, x: (resample(x), None), {}, "small", resample=resample)
    rng = np.random.default_rng(0)
    wide, tall = (rng.integers(0, 256, s).astype(np.uint8) for s in ((4, 9, 3), (9, 5, 3)))
    mixed = extract.pixels([wide, tall, wide]).features
    for i, image in enumerate((wide, tall, wide)):
        np.testing.assert_allclose(mixed[i], extract.pixels([image]).features[0], atol=1e-5)
    square = FeatureExtractor(
        lambda w, x: (resample(x), None), {}, "square", resample=resample, square=True
    )
    expected = extract.pixels([tall[2:7]]).features
    np.testing.assert_allclose(square.pixels([wide, tall]).features[1:], expected, atol=1e-5)
    with pytest.raises(ValueError, match="pixels compares images of one size"):
        flat_extractor().pixels([wide, tall])


def test_dequantisation_is_noise_within_a_level_by_place():
    x = np.zeros((3, 2, 2, 1), np.float32)
    noisy = dequantised(x, "uniform")
    assert 0 < np.abs(noisy).max() <= 0.5 / 127.5
    np.testing.assert_array_equal(noisy[1:], dequantised(x[1:], "uniform", start=1))
    assert not np.array_equal(noisy[0], noisy[1])
    extract = flat_extractor(dequantise="uniform")
    levels = np.full((6, 2, 2, 3), 100, np.uint8)
    whole = extract.pixels(levels).features
    np.testing.assert_array_equal(whole[4:], extract.pixels(levels[4:], start=4).features)
    assert extract.protocol["dequantise"] == "uniform"
    with pytest.raises(ValueError, match="unknown dequantise 'gauss'"):
        flat_extractor(dequantise="gauss")


def test_protocols_have_names():
    """Nothing is computed: options of InceptionV3 and of a CLIP, and what they are recorded as."""
    plain = inception_features({"w": np.zeros(1)})
    other = inception_features({"w": np.zeros(1)}, protocol="tensorflow", resize="clean", width=64)
    assert (plain.resize, plain.facts["scale"]) == ("bilinear 299", "unit")
    assert (other.resize, other.facts["scale"]) == ("clean 299", "tensorflow")
    assert other.facts["logits"] == "logits_unbiased" and other.protocol["width"] == 64
    for key, value in {"protocol": "fid", "scale": "255", "resize": "cv2", "width": 100}.items():
        with pytest.raises(ValueError, match=rf"unknown {key} '?{value}"):
            inception_features({}, **{key: value})
    clip = clip_features(lambda w, x: x.mean((1, 2)) * w, jnp.float32(2), 4, "CLIP")
    grey = np.full((2, 6, 8, 1), 255, np.uint8)
    np.testing.assert_allclose(clip.pixels(grey).features, np.full((2, 3), 2.0), rtol=1e-5)
