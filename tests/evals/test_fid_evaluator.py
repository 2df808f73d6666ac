"""The papers' protocol as an evaluator: samples against a file of reference statistics."""

import dataclasses

import jax
import numpy as np
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


def by_text(variables, seed, index, cond, *, sampler="by_text"):
    """The digit that each text, a number of two tokens, is of."""
    (tokens,) = cond.values()
    return variables["images"][tokens[:, 0] * 100 + tokens[:, 1]]


def by_hint(variables, seed, index, cond, *, sampler="by_hint"):
    """The image that it is shown."""
    return cond["hint"]


@pytest.fixture(scope="module")
def asking(context, digits):
    """The context of runs that draw by the texts, or the hints, of the 250 test digits."""
    test = digits["test"]
    number = np.arange(len(test["image"]))
    tokens = np.stack([number // 100, number % 100], axis=1).astype(np.int32)
    held = {**test, "tokens": tokens, "hint": test["image"]}
    fns = {"text": by_text, "hint": by_hint, "encode": by_text_of, "decode": by_text_of}
    return lambda *fields: dataclasses.replace(
        context, predict_fns=fns, test=held, drawn_by=fields, conditional=False
    )


def by_text_of(variables, given, cond):
    """`given`, where it is drawn by its own text."""
    own = variables["images"][cond["tokens"][:, 0] * 100 + cond["tokens"][:, 1]]
    return jax.numpy.where((own == given).all((1, 2, 3), keepdims=True), given, -given)


@pytest.fixture(scope="module")
def tested(digits, extractor, tmp_path_factory):
    """The statistics of the 250 test digits, and the digits as variables."""
    path = tmp_path_factory.mktemp("tested") / "test.npz"
    images = digits["test"]["image"]
    write_reference(path, moments(extractor(images, real=True).features), None, None,
                    extractor.protocol)  # fmt: skip
    return path, {"images": jax.numpy.asarray(images)}


@pytest.mark.parametrize(("field", "pred"), [("tokens", "text"), ("hint", "hint")])
def test_a_run_that_draws_by_text_or_image_is_given_those_of_the_split(asking, tested, field, pred):
    path, held = tested
    options = {"num_samples": 250, "metrics": ("fid",), "batch_size": 100, "pred": pred}
    made = make_evaluator("fid", asking(field), reference=str(path), **options)
    made.trial(jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), held))
    got = {r.name: r for r in made.run(held)}["fid"]
    assert got.value == pytest.approx(0, abs=1e-4)
    assert got.protocol["split"] == "test" and got.protocol["data"]
    with pytest.raises(ValueError, match="which split 'train' has not"):
        make_evaluator("fid", asking(field), reference=str(path), split="train", **options).trial(
            held
        )


def test_images_of_one_text_leave_the_jackknife_together(asking, tested):
    """Four draws of each text are equal here: they tell no more than one."""
    path, held = tested
    options = {"metrics": ("fid", "inception_score"), "pred": "text", "settings": {"groups": 10}}
    stds = []
    for count in (250, 1000):
        made = make_evaluator(
            "fid", asking("tokens"), reference=str(path), num_samples=count, **options
        )
        stds.append({r.name: r for r in made.run(held)}["fid"].std)
    assert stds[0] == pytest.approx(stds[1], rel=0.02)


def test_a_split_is_not_read_by_a_run_that_draws_by_class(context, reference):
    with pytest.raises(ValueError, match="split='train' is not read"):
        make_evaluator("fid", context, reference=str(reference), split="train")


def test_a_reconstruction_asks_for_each_image_by_its_own_text(asking, tested):
    _, held = tested
    made = make_evaluator("reconstruction", asking("tokens"), num_images=120, batch_size=50)
    made.trial(jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), held))
    got = {r.name: r for r in made.run(held)}
    assert got["reconstruction_mse"].value == 0
    with pytest.raises(ValueError, match="drawn by nothing_such, which split 'test' has not"):
        list(make_evaluator("reconstruction", asking("nothing_such")).run(held))
