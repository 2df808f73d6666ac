"""Pictures of a latent space whose meaning is known; samples of models without classes."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.diffusion.interpolation import between
from diffjax.evals import make_evaluator
from diffjax.evals.base import Picture
from diffjax.evals.pictures import as_rgb
from diffjax.results import Result

# The posterior of an image reads its first three pixels; the fourth dimension is asleep.
USED = 3


def posterior(variables, image):
    mean = image.reshape(len(image), -1)[:, 18 : 18 + USED]
    mean = jnp.pad(mean, ((0, 0), (0, 1)))
    return mean, jnp.broadcast_to(jnp.array([0.0, -4.0, -2.0, 0.0]), mean.shape)


def decode(variables, z):
    """An image whose upper left pixels are the code over 4."""
    return jnp.zeros((len(z), 64)).at[:, :4].set(z / 4).reshape(-1, 8, 8, 1)


@pytest.fixture
def known(context):
    fns = {**context.predict_fns, "posterior": posterior, "decode": decode}
    return dataclasses.replace(context, predict_fns=fns)


def run(context, name="latents", variables=(), **kw):
    out = list(make_evaluator(name, context, **kw).run(variables))
    scalars = {s.name: s for s in out if isinstance(s, Result)}
    return scalars, {p.name: p.image for p in out if isinstance(p, Picture)}


def tiles(picture, columns, side=56, gap=3, margin=18):
    """Tiles of a picture's grid, from its lower right corner: `[R, columns, side, side]`."""
    rows = []
    bottom = picture.shape[0] - margin
    while bottom - side > 60:
        x = [picture.shape[1] - margin - side - c * (side + gap) for c in range(columns)]
        rows.append([picture[bottom - side : bottom, i : i + side, 0] for i in x[::-1]])
        bottom -= side + gap
    return np.array(rows[::-1])


def test_active_units_are_those_that_vary(known):
    scalars, _ = run(known)
    assert scalars["active_units"].value == USED
    assert scalars["active_units"].protocol["num_images"] == len(known.test["image"])


def test_traversals_move_one_dimension_in_each_row_most_kl_first(known):
    _, pictures = run(known, rows=2, columns=5, reach=2.0, around="mean")
    shown = tiles(pictures["traversals"], 5)[-2:]
    code = shown[:, :, 3, 3::7][:, :, :4].astype(float) / 127.5 - 1
    # KL is largest in dimension 1 (log variance -4), then 2.
    steps = np.linspace(-2, 2, 5) / 4
    for row, unit in enumerate((1, 2)):
        np.testing.assert_allclose(code[row, :, unit], steps, atol=0.01)
        others = [u for u in range(4) if u != unit]
        np.testing.assert_allclose(code[row][:, others], 0, atol=0.01)


def test_interpolations_go_from_one_image_to_the_other(known):
    _, pictures = run(known, rows=3, columns=4, path="linear")
    shown = tiles(pictures["interpolations"], 6)[-3:]
    image = known.test["image"]
    np.testing.assert_array_equal(shown[:, 0, 3::7, 3::7], as_rgb(image[:3])[..., 0])
    np.testing.assert_array_equal(shown[:, 5, 3::7, 3::7], as_rgb(image[3:6])[..., 0])
    code = shown[:, 1:5, 3, 3::7][:, :, :3].astype(float) / 127.5 - 1
    a, b = (np.asarray(posterior((), x)[0])[:, :3] / 4 for x in (image[:3], image[3:6]))
    t = np.linspace(0, 1, 4)[None, :, None]
    np.testing.assert_allclose(code, (1 - t) * a[:, None] + t * b[:, None], atol=0.01)


def test_the_paths_between_two_codes():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 5, 7))
    t = np.linspace(0, 1, 9)
    for path in ("linear", "spherical"):
        z = between(a, b, t, path)
        np.testing.assert_allclose(z[:, 0], a, atol=1e-12)
        np.testing.assert_allclose(z[:, -1], b, atol=1e-12)
        np.testing.assert_allclose(between(b, a, t, path), z[:, ::-1], atol=1e-12)
    # Equal angles, and lengths between those of the ends.
    unit = z / np.linalg.norm(z, axis=-1, keepdims=True)
    steps = (unit[:, 1:] * unit[:, :-1]).sum(-1)
    np.testing.assert_allclose(steps, np.broadcast_to(steps[:, :1], steps.shape), atol=1e-9)
    ends = np.linalg.norm(np.stack([a, b]), axis=-1)
    length = np.linalg.norm(z, axis=-1)
    np.testing.assert_allclose(length, (1 - t) * ends[0][:, None] + t * ends[1][:, None], 1e-9)
    for twin in (a, -a, 0 * a):
        straight = between(a, twin, t, "linear")
        np.testing.assert_allclose(between(a, twin, t, "spherical"), straight, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(columns=1), "columns 1 must be >= 2"),
        (dict(decode="deocde"), "did you mean 'decode'"),
        (dict(split="tset"), "did you mean 'test'"),
        (dict(path="curved"), "'linear' or 'spherical'"),
    ],
)
def test_wrong_options(known, options, said):
    with pytest.raises(ValueError, match=said):
        make_evaluator("latents", known, **options)


def test_samples_without_classes_are_a_square_of_one_class(context, pool):
    """Their labels are all 0, nothing is written beside a row, and no class is looked for."""
    seen = []

    def sample(variables, seed, index, label):
        seen.append(np.asarray(label))
        return variables["images"][index % 10, index // 10 % 4]

    free = dataclasses.replace(context, predict_fns={"sample": sample}, conditional=False)
    _, pictures = run(free, "samples", pool, columns=4)
    assert pictures["samples"].shape[1] < 4 * 59 + 2 * 18 + 5  # no room for names
    assert len(tiles(pictures["samples"], 4)) == 4
    scalars, pictures = run(free, "generation", pool, num_samples=40, batch_size=40, groups=0)
    assert {label.max() for label in seen} == {0}
    assert "frechet_ratio" in scalars and "class_accuracy" not in scalars
    assert set(pictures) == {"samples", "neighbours"}
    by_class, _ = run(dataclasses.replace(context, predict_fns={"sample": sample}), "generation",
                      pool, num_samples=40, batch_size=40, groups=0)  # fmt: skip
    assert "class_accuracy" in by_class
