"""Laws of the autoencoder's networks: shapes, dtypes, starting values, wrong sections."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_variables import random_variables

from diffjax.models import build_model

SHAPE, LATENT = (8, 8, 3), 5
CONV = dict(type="conv", channels=(8, 16), hidden=16)
MLP = dict(type="mlp", width=16, depth=2)
IMAGE = np.random.default_rng(0).standard_normal((3, *SHAPE)).astype(np.float32)
PARTS = pytest.mark.parametrize("part", [MLP, CONV], ids=["mlp", "conv"])


def make(part=CONV, scale="none", **kw):
    section = dict(image_shape=SHAPE, latent=LATENT, encoder=part, decoder=part, scale=scale)
    return build_model("vae", **{**section, **kw})


@functools.cache
def moved(model):
    """Parameters of which none is zero."""
    return random_variables(model.init, IMAGE, std=0.2, seed=1, norms=0.0)


@functools.cache
def compiled(model, method=None, train=False):
    options = {"train": train} if train else {}
    return jax.jit(functools.partial(model.apply, method=method, **options))


def run(model, variables, x, method=None, train=False, **kw):
    """The outputs as numpy's, by a program that all tests of the model share."""
    return jax.device_get(compiled(model, method, train)(variables, x, **kw))


@PARTS
@pytest.mark.parametrize("scale", ["none", "shared", "pixel"])
def test_shapes(part, scale):
    model = make(part, scale)
    v = moved(model)
    mean, log_var = jax.eval_shape(functools.partial(model.apply, method="encode"), v, IMAGE)
    assert mean.shape == log_var.shape == (3, LATENT)
    location, log_scale = jax.eval_shape(functools.partial(model.apply, method="decode"), v, mean)
    assert location.shape == IMAGE.shape
    shape = {"none": None, "shared": (), "pixel": IMAGE.shape}[scale]
    assert (None if log_scale is None else log_scale.shape) == shape


@PARTS
def test_the_posterior_starts_at_the_prior_and_the_scale_where_it_is_told(part):
    for scale in ("shared", "pixel"):
        model = make(part, scale, log_scale=-2.0)

        @jax.jit
        def begin(z, model=model):
            v = model.init(jax.random.key(0), IMAGE)
            return model.apply(v, IMAGE, method="encode"), model.apply(v, z, method="decode")

        z = np.random.default_rng(1).standard_normal((3, LATENT)).astype(np.float32)
        posterior, (location, log_scale) = jax.device_get(begin(z))
        for x in posterior:
            np.testing.assert_array_equal(x, 0)
        assert np.abs(location).max() > 1e-3  # or nothing would reach the encoder
        assert np.abs(np.mean(log_scale) + 2) < 0.5


@PARTS
def test_examples_are_independent_and_arithmetic_may_be_half(part):
    model, half = make(part), make(part, dtype="bfloat16")
    v = moved(model)
    out, turned = (run(model, v, x)[0] for x in (IMAGE, IMAGE[::-1]))
    np.testing.assert_allclose(turned[::-1], out, atol=1e-4)
    assert np.abs(out[0] - out[1]).max() > 1e-4
    short = run(half, v, IMAGE)[0]
    assert short.dtype == jnp.float32
    assert 0 < np.abs(short - out).max() < 0.1 * np.abs(out).max()


@PARTS
def test_dropout_only_in_training(part):
    model = make({**part, "dropout": 0.5})
    v, key = moved(model), {"dropout": jax.random.key(1)}
    calm = run(model, v, IMAGE, rngs=key)[0]
    np.testing.assert_array_equal(calm, run(model, v, IMAGE)[0])
    assert np.abs(calm - run(model, v, IMAGE, train=True, rngs=key)[0]).max() > 1e-4


def test_depth_zero_is_linear():
    model = make(dict(type="mlp", depth=0))
    v = moved(model)
    f = lambda x: run(model, v, x, "encode")[0]  # noqa: E731
    a, b = IMAGE, IMAGE[::-1]
    np.testing.assert_allclose(f(0.3 * a + 0.7 * b), 0.3 * f(a) + 0.7 * f(b), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(encoder="conv"), "model.encoder is a section"),
        (dict(decoder=dict(type="cov")), "did you mean 'conv'"),
        (dict(encoder=dict(type="conv", chanels=(3,))), "did you mean 'channels'"),
        (dict(encoder=dict(type="mlp", outputs=3)), "model.encoder.outputs follows"),
        (dict(scale="pixels"), "'none' or 'shared' or 'pixel'"),
        (dict(latent=0), "model.latent=0"),
        (dict(latnt=3), "did you mean 'latent'"),
    ],
    ids=str,
)
def test_a_wrong_section_is_one_line(change, said):
    with pytest.raises(ValueError, match=said) as error:
        make(**change)
    assert "\n" not in str(error.value)


def test_an_image_that_does_not_halve_is_refused():
    with pytest.raises(ValueError, match="H and W divisible by 4"):
        network = make({**CONV, "channels": (8, 8, 8)}, image_shape=(6, 6, 1))
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 6, 6, 1)))
