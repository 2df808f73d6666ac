"""The papers' protocol as an evaluator: samples against a file of reference statistics."""

import pytest

from diffjax.evals import make_evaluator
from diffjax.evals.drawing import balanced_labels, draw
from diffjax.evals.features import to_uint8
from diffjax.evals.reference import write_reference
from diffjax.metrics.frechet import frechet_distance, moments
from diffjax.metrics.precision_recall import precision_recall


@pytest.fixture(scope="module")
def reference(digits, extractor, tmp_path_factory):
    """Moments of the 1,000 training digits, 200 of them as images."""
    path = tmp_path_factory.mktemp("reference") / "digits.npz"
    images = digits["train"]["image"]
    found = moments(extractor(images, real=True).features)
    write_reference(path, found, None, to_uint8(images[:200]), extractor.protocol)
    return path


def numbers(context, reference, variables, **options):
    options = {"num_samples": 120, "metrics": ("fid", "inception_score"), **options}
    made = make_evaluator("fid", context, reference=str(reference), **options)
    return {r.name: r for r in made.run(variables)}


def test_numbers_are_those_of_all_samples_at_once(context, reference, pool, extractor, digits):
    got = numbers(context, reference, pool, metrics=("fid", "precision_recall"), batch_size=50)
    label = balanced_labels(120, 10)
    images = draw(context.predict_fns["sample"], pool, 0, label, 120)
    drawn = extractor(images).features
    real = extractor(digits["train"]["image"], real=True).features
    expected = frechet_distance(moments(drawn), moments(real))
    assert got["fid"].value == pytest.approx(expected, rel=1e-6)
    shares = precision_recall(real[:200], drawn, 3)
    assert got["precision"].value == pytest.approx(shares.precision)
    assert got["recall"].value == pytest.approx(shares.recall)
    how = got["fid"].protocol
    assert (how["num_samples"], how["nfe"], how["pred"]) == (120, 7, "sample")
    assert how["reference"] and how["features"] == extractor.fingerprint
    assert got["samples"].image.ndim == 3


def test_the_batch_changes_nothing_and_the_seed_does(context, reference, pool):
    values = [
        numbers(context, reference, pool, batch_size=size, seed=seed)["fid"].value
        for size, seed in ((7, 0), (120, 0), (120, 1))
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-9) and values[1] != values[2]


def test_copies_are_nearer_than_noise(context, reference, copies):
    near = numbers(context, reference, copies)["fid"].value
    far = numbers(context, reference, copies, pred="noise")["fid"].value
    assert 0 < near < far / 10


def test_what_a_file_lacks_is_told_at_once(context, reference, digits, extractor, tmp_path):
    found = moments(extractor(digits["train"]["image"], real=True).features)
    write_reference(tmp_path / "bare.npz", found)
    write_reference(tmp_path / "other.npz", found, protocol={"resize": "clean 299"})
    for file, options, said in (
        ("bare.npz", {"metrics": ("precision_recall",)}, "holds no images"),
        ("bare.npz", {"metrics": ("sfid",)}, "holds no mu_s"),
        ("bare.npz", {"metrics": ("cmmd",)}, "cmmd is no metric of FID's network"),
        ("bare.npz", {"metrics": ("fdi",)}, "did you mean 'fid'"),
        ("bare.npz", {"num_samples": 1}, "two or more"),
        ("bare.npz", {"settings": {"split": 3}}, "did you mean 'splits'"),
        ("other.npz", {}, "another protocol: resize"),
        ("none.npz", {}, "cannot be read"),
    ):
        with pytest.raises(ValueError, match=said):
            make_evaluator("fid", context, reference=str(tmp_path / file), **options)
