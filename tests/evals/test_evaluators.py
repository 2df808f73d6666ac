"""The other evaluators on predict functions whose answers are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.evals import EVALUATORS, make_evaluator
from diffjax.evals.base import Picture
from diffjax.evals.pictures import count_matrix
from diffjax.evals.trajectory import show_range
from diffjax.results import Result


def run(name, context, variables, **kw):
    """(scalars by name, pictures by name)."""
    out = list(make_evaluator(name, context, **kw).run(variables))
    scalars = {s.name: s for s in out if isinstance(s, Result)}
    return scalars, {p.name: p.image for p in out if isinstance(p, Picture)}


def with_fns(context, **fns):
    return dataclasses.replace(context, predict_fns={**context.predict_fns, **fns})


def test_samples_show_each_class_in_its_row(context, copies):
    """Tile (k, j) is sample j of class k, magnified without smoothing."""
    _, pictures = run("samples", context, copies, columns=3)
    image = pictures["samples"]
    tile = np.rint(127.5 * np.asarray(copies["images"])[4, 2, :, :, 0] + 127.5)
    large = np.kron(tile, np.ones((7, 7))).astype(np.uint8)
    views = np.lib.stride_tricks.sliding_window_view(image[..., 0], large.shape)
    # StepTable of the grid lie 59 pixels apart: search, the margins are the drawing's own affair.
    found = [
        (y, x)
        for y, x in np.argwhere(views[:, :, 28, 28] == large[28, 28])
        if np.array_equal(views[y, x], large)
    ]
    assert len(found) == 1
    rows = (image.shape[0] - 18 - found[0][0]) / 59
    assert 5.5 < rows < 6.5  # six rows, 4 to 9, lie below its top edge


def test_more_columns_leave_the_first_ones_alone(context, pool):
    few, many = (run("samples", context, pool, columns=c)[1]["samples"] for c in (6, 8))
    below, right = 70, few.shape[1] - 18
    assert many.shape[1] == few.shape[1] + 2 * 59
    np.testing.assert_array_equal(few[below:, :right], many[below:, :right])


def test_trajectory_starts_in_noise_and_ends_in_the_image(context, pool):
    levels = dataclasses.replace(
        context, noise_levels=lambda steps=20: np.linspace(9, 0, steps + 1)
    )
    evaluator = make_evaluator("trajectory", levels, rows=4, columns=6)
    (picture,) = evaluator.run(pool)
    assert picture.name == "trajectory" and picture.image.dtype == np.uint8
    wrong = dataclasses.replace(context, noise_levels=lambda **kw: [1.0, 0.0])
    with pytest.raises(ValueError, match="2 levels for 21 frames"):
        list(make_evaluator("trajectory", wrong).run(pool))


def test_show_range_touches_only_frames_that_overflow():
    rng = np.random.default_rng(0)
    frames = np.stack([rng.uniform(-1, 1, (2, 8, 8, 1)), 50 * rng.normal(size=(2, 8, 8, 1))])
    shown = show_range(frames)
    np.testing.assert_array_equal(shown[0], frames[0])
    assert 0.9 < np.abs(shown[1]).max() < 1.5


def test_likelihood_is_the_mean_over_the_images_alone(context, digits):
    """Padding must not count: the value of each image is its own mean."""

    def bits(variables, seed, batch, *, unit=1.0):
        value = unit * batch["image"].mean((1, 2, 3))
        code = batch["image"]
        return {
            "code": code,
            "total": value + variables["offset"],
            "seed": jnp.full(value.shape, seed * 1.0),
        }

    wrapped = with_fns(context, bits_per_dim=bits)
    kw = {"batch_size": 128, "seed": 5, "pred_kw": {"unit": 2.0}}
    scalars, _ = run("likelihood", wrapped, {"offset": 3.0}, **kw)
    assert set(scalars) == {"bits_per_dim/total", "bits_per_dim/seed"}
    each = 2 * digits["test"]["image"].mean((1, 2, 3)) + 3
    got = scalars["bits_per_dim/total"]
    assert got.value == pytest.approx(each.mean(), rel=1e-5)
    assert got.std == pytest.approx(each.std(ddof=1) / np.sqrt(250), rel=1e-4)
    assert got.protocol["unit"] == 2.0 and got.protocol["num_images"] == 250
    # Batches of 128 and 122 images: seeds 5 and 6.
    expected = (5 * 128 + 6 * 122) / 250
    assert scalars["bits_per_dim/seed"].value == pytest.approx(expected)


def test_classification_of_a_known_share(context, digits):
    """A classifier that is right on all but the class 3."""

    def logits(variables, image):
        answer = variables["answers"][
            jnp.argmin(jnp.square(image[:, None] - variables["images"]).sum((-3, -2, -1)), axis=1)
        ]
        return 9.0 * jax.nn.one_hot(answer, 10)

    label = digits["test"]["label"]
    answers = np.where(label == 3, 5, label)
    variables = {"images": jnp.asarray(digits["test"]["image"]), "answers": jnp.asarray(answers)}
    scalars, pictures = run("classification", with_fns(context, logits=logits), variables)
    expected = (label != 3).mean()
    assert scalars["accuracy"].value == pytest.approx(expected)
    assert scalars["accuracy_low"].value < expected < scalars["accuracy_high"].value
    wrong, right = np.log(np.exp(9) + 9), np.log1p(9 * np.exp(-9))
    loss = expected * right + (1 - expected) * wrong
    assert scalars["loss"].value == pytest.approx(loss, rel=1e-5)
    assert pictures["confusion"].ndim == 3


def test_reconstruction_measures_the_error_that_was_made(context):
    """Decoding adds 0.1 everywhere: squared error 0.01, PSNR 10 log10(4 / 0.01)."""
    fns = {
        "encode": lambda v, image, label, *, gain=2.0: gain * image,
        "decode": lambda v, z, label, *, gain=2.0: z / gain + v["error"],
    }
    wrapped = with_fns(context, **fns)
    scalars, pictures = run("reconstruction", wrapped, {"error": 0.1}, num_images=50, batch_size=32)
    assert scalars["reconstruction_mse"].value == pytest.approx(0.01, rel=1e-5)
    assert scalars["reconstruction_psnr"].value == pytest.approx(26.02, abs=0.01)
    exact, _ = run("reconstruction", wrapped, {"error": 0.0}, num_images=50)
    assert exact["reconstruction_mse"].value < 1e-12
    assert "rfid" not in exact
    for error, (low, high) in {0.0: (0, 1e-6), 0.4: (1e-3, np.inf)}.items():
        far, _ = run("reconstruction", wrapped, {"error": error}, num_images=50, measures=("rfid",))
        distance = far["rfid"]
        assert low <= distance.value < high and distance.protocol["extractor"] == "projection"
    with pytest.raises(ValueError, match="this evaluation compares features"):
        make_evaluator(
            "reconstruction", dataclasses.replace(wrapped, features=None), measures=("rfid",)
        )
    latent = 2 * context.test["image"][:50].std()
    assert exact["latent_std"].value == pytest.approx(latent, rel=1e-4)
    assert "reconstruction" in pictures


@pytest.mark.parametrize("k", [4, 56])
def test_a_class_is_named_at_its_own_row_and_column(k):
    """Another name for class 2 changes pixels beside row 2 and above column 2 alone: names of
    neighbours do not run into each other."""
    names = [f"yellow triangle {i:02d}" for i in range(k)]
    changed = [*names[:2], names[2].replace("y", "g"), *names[3:]]
    counts = np.ones((k, k), int)
    before, after = (
        count_matrix(counts, n, across="predicted", down="true") for n in (names, changed)
    )
    y, x = np.nonzero((before != after).any(-1))
    side = 44 if k == 4 else 15
    rows, columns = np.arange(before.shape[0]), np.arange(before.shape[1])
    top, left = rows[-1] + 1 - 18 - k * side, columns[-1] + 1 - 18 - k * side
    beside, above = x < left, y < top
    assert beside.any() and above.any() and (beside ^ above).all()
    assert (y[beside] - top).min() >= 2 * side and (y[beside] - top).max() < 3 * side
    assert (x[above] - left).min() >= 2 * side and (x[above] - left).max() < 3 * side


@pytest.mark.parametrize("name", sorted(EVALUATORS))
def test_every_evaluator_refuses_unknown_options(name, context):
    with pytest.raises(ValueError, match=f"key of evaluator '{name}': 'colour'"):
        make_evaluator(name, context, colour=1)
