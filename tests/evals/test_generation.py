"""Generators whose distribution is known get the numbers that they must get."""

import dataclasses

import numpy as np
import pytest

from diffjax.evals import make_evaluator
from diffjax.evals.base import Picture
from diffjax.results import Result, differing, same_protocol


def run(context, variables, **kw):
    """(scalars by name, pictures by name) of a quick generation evaluation."""
    options = {"num_samples": 400, "batch_size": 150, "groups": 10} | kw
    out = list(make_evaluator("generation", context, **options).run(variables))
    scalars = {s.name: s for s in out if isinstance(s, Result)}
    return scalars, {p.name: p for p in out if isinstance(p, Picture)}


@pytest.fixture(scope="module")
def perfect(context, pool):
    return run(context, pool)


def test_real_images_as_samples_are_as_near_as_held_out_images(perfect):
    scalars, pictures = perfect
    ratio = scalars["frechet_ratio"]
    assert abs(ratio.value - 1) < 4 * ratio.std
    assert 0 < ratio.std < 0.5
    for name in ("precision", "recall", "coverage"):
        assert scalars[name].value > 0.7, name
    assert scalars["density"].value == pytest.approx(1.0, abs=0.15)
    assert abs(scalars["kernel"].value) < 4 * scalars["kernel"].std
    assert scalars["copy_ratio"].value == pytest.approx(1.0, abs=0.2)
    assert set(pictures) == {"samples", "confusion", "neighbours"}
    assert all(p.image.dtype == np.uint8 and p.image.shape[2] == 3 for p in pictures.values())


def test_spatial_features_have_a_distance_of_their_own(context, pool):
    """sFID, where the extractor gives them: here the plain features again."""
    plain = context.features
    twice = dataclasses.replace(
        plain, apply=lambda w, x: (*plain.apply(w, x), plain.apply(w, x)[0])
    )
    scalars, _ = run(dataclasses.replace(context, features=twice), pool, groups=5)
    assert scalars["frechet_spatial"].value == pytest.approx(scalars["frechet"].value, rel=1e-9)
    assert scalars["frechet_spatial"].std == pytest.approx(scalars["frechet"].std, rel=1e-9)


def test_noise_is_far_and_outside(context, perfect):
    scalars, _ = run(context, {}, pred="noise")
    assert scalars["frechet_ratio"].value > 10
    assert scalars["frechet"].value > 10 * perfect[0]["frechet"].value
    assert scalars["kernel"].value > 20 * scalars["kernel"].std
    assert scalars["precision"].value < 0.3
    assert scalars["class_accuracy"].value < 0.4


def test_copies_agree_with_a_perfect_classifier_and_wrong_classes_never_do(context, copies):
    scalars, _ = run(context, copies, groups=0)
    assert scalars["class_accuracy"].value == scalars["class_accuracy_high"].value == 1.0
    assert 0.97 < scalars["class_accuracy_low"].value < 1.0
    assert scalars["frechet"].std is None
    assert scalars["copy_ratio"].value < 1e-4
    shifted, _ = run(context, copies, pred_kw={"shift": 1}, groups=0)
    assert shifted["class_accuracy"].value == 0.0


def test_one_image_a_class_costs_coverage_not_class_accuracy(context, copies):
    """Mode collapse: every sample of a class is one training digit."""
    scalars, _ = run(context, {"images": copies["images"][:, :1]}, groups=0)
    assert scalars["class_accuracy"].value == 1.0
    assert scalars["coverage"].value < 0.2
    assert scalars["precision"].value == 1.0


def test_batch_size_changes_nothing(context, pool, perfect):
    other, _ = run(context, pool, batch_size=64)
    for name, scalar in perfect[0].items():
        assert other[name].value == pytest.approx(scalar.value, rel=1e-6, abs=1e-9), name


def test_seeds_are_averaged_and_narrow_the_bar(context, pool, perfect):
    """Two seeds: the mean of the single runs, and about 1 / sqrt(2) of their bar."""
    second, _ = run(context, pool, seeds=(7,))
    both, _ = run(context, pool, seeds=(0, 7))
    first = perfect[0]
    for name in ("frechet", "precision", "class_accuracy"):
        mean = (first[name].value + second[name].value) / 2
        assert both[name].value == pytest.approx(mean, rel=1e-6)
    assert 0.5 < both["frechet"].std / first["frechet"].std < 1.0
    assert same_protocol(both["frechet"].protocol, first["frechet"].protocol)


def test_protocol_says_how_and_tells_apart(context, pool, perfect):
    p = perfect[0]["frechet"].protocol
    assert (p["num_samples"], p["nfe"], p["sampler"], p["steps"]) == (400, 7, "replay", 1)
    assert (p["quantise"], p["resize"], p["seeds"]) == ("round", "none", [0])
    assert p["features"] == context.features.fingerprint
    assert "sampler" not in perfect[0]["frechet_real"].protocol
    assert perfect[0]["frechet_matched"].protocol["num_samples"] <= 250
    other, _ = run(context, pool, pred_kw={"steps": 2}, groups=0)
    assert differing([p, other["frechet"].protocol]) == {"steps": [1, 2]}


def test_samples_are_kept_and_read_back(context, pool, copies, tmp_path):
    kept = dataclasses.replace(context, cache_dir=tmp_path)
    options = {"num_samples": 40, "groups": 0}
    make = lambda **kw: make_evaluator("generation", kept, **options | kw)  # noqa: E731
    drawn = make().samples(pool, 0)
    (path,) = tmp_path.iterdir()
    np.savez(path, image=drawn + 1, label=np.zeros(40))
    np.testing.assert_array_equal(make().samples(pool, 0), drawn + 1)
    path.write_bytes(path.read_bytes()[:100])
    np.testing.assert_array_equal(make().samples(pool, 0), drawn)
    np.testing.assert_array_equal(make().samples(pool, 0), drawn)
    assert len(list(tmp_path.iterdir())) == 1
    make().samples(pool, 1), make(pred_kw={"steps": 2}).samples(pool, 0), make().samples(copies, 0)
    make(num_samples=20).samples(pool, 0)
    assert len(list(tmp_path.iterdir())) == 5


def test_errors_name_what_is_wrong(context):
    make = lambda **kw: make_evaluator("generation", context, **kw)  # noqa: E731
    with pytest.raises(ValueError, match="'num_sample'; did you mean 'num_samples'"):
        make(num_sample=3)
    with pytest.raises(ValueError, match="'stepps'; did you mean 'steps'"):
        make(pred_kw={"stepps": 3})
    with pytest.raises(ValueError, match="predict function 'sampel'; did you mean 'sample'"):
        make(pred="sampel")
    with pytest.raises(ValueError, match="need at least 20"):
        make(num_samples=19)
    with pytest.raises(ValueError, match=r"features=\.\.\."):
        make_evaluator("generation", dataclasses.replace(context, features=None))
    with pytest.raises(
        ValueError, match=r"unknown evaluator 'fit'; did you mean 'fid'.*fid, generation"
    ):
        make_evaluator("fit", context)


def test_samples_that_are_not_finite_are_an_error(context, pool):
    broken = {"images": pool["images"].at[3].set(np.nan)}
    with pytest.raises(ValueError, match="40 of 400 samples of seed 0 are not finite"):
        run(context, broken)


def test_without_labels_or_held_out_images_those_numbers_are_left_out(context, pool):
    image = {"image": context.train["image"]}
    fns = {"sample": lambda v, seed, index, label: v["images"][index % 10, index // 10 % 40]}
    bare = dataclasses.replace(context, predict_fns=fns, train=image, test=image, nfe=None)
    scalars, pictures = run(bare, pool, groups=0)
    assert scalars.keys() & {"frechet", "coverage", "inception_score"}
    assert not scalars.keys() & {"frechet_real", "frechet_ratio", "class_accuracy", "copy_ratio"}
    assert "confusion" not in pictures


def test_a_recipe_in_full_is_the_protocol(context, pool):
    """Two ways to say the same: a default left out and written out hash alike."""
    described = dataclasses.replace(
        context, nfe=lambda sampler="ddim", steps=5: {"sampler": sampler, "steps": steps, "nfe": 9}
    )
    fns = {"sample": lambda v, seed, index, label, **recipe: v["images"][label, index // 10 % 40]}
    described = dataclasses.replace(described, predict_fns=fns)
    left, _ = run(described, pool, groups=0)
    right, _ = run(described, pool, groups=0, pred_kw={"steps": 5})
    assert left["frechet"].protocol == right["frechet"].protocol
    assert left["frechet"].protocol["nfe"] == 9
    with pytest.raises(TypeError):
        run(described, pool, pred_kw={"stepps": 5})
