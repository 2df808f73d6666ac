"""The autoencoder and its bottlenecks: what is true of any codec, and of any codebook."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_variables import random_variables

from diffjax.models import build_model
from diffjax.models.autoencoder import Autoencoder, Posterior
from diffjax.nn.quantiser import CODEBOOK, Quantiser, nearest

TINY = dict(channels=8, channel_mult=(1, 2), blocks=1, norm_groups=4, latent_channels=3)


X = np.random.default_rng(0).uniform(-1, 1, (2, 8, 12, 3)).astype(np.float32)


def codec(**changes):
    model = build_model("autoencoder", **{**TINY, **changes})
    assert isinstance(model, Autoencoder)
    return model, random_variables(model.init, X), X


@functools.cache
def compiled(model, method):
    return jax.jit(functools.partial(model.apply, method=method))


def run(model, variables, x, method=None):
    """The outputs as numpy's, by a program that all tests of the model share."""
    return jax.device_get(compiled(model, method)(variables, x))


@pytest.fixture(scope="module", params=["kl", pytest.param("vq", marks=pytest.mark.heavy)])
def case(request):
    return codec(bottleneck=request.param, codes=12, scale=0.5, shift=0.25)


def test_latents_are_smaller_and_come_back(case):
    model, variables, x = case
    z = run(model, variables, x, "to_latents")
    assert z.shape == (2, 4, 6, 3) and model.factor == 2
    image = run(model, variables, z, "from_latents")
    passed, _ = run(model, variables, x)
    assert image.shape == x.shape and image.dtype == jnp.float32
    np.testing.assert_allclose(image, passed, atol=1e-5)


def test_diffusion_sees_scaled_and_shifted_latents(case):
    model, variables, x = case
    z = run(model, variables, x, "encode")
    z = z.mean if isinstance(z, Posterior) else z
    seen = run(model, variables, x, "to_latents")
    np.testing.assert_allclose(seen, (z - 0.25) * 0.5, atol=1e-6)


def test_a_patch_is_a_place_with_more_channels():
    # One level, for the places are the first and the last layer's.
    model, variables, x = codec(patch=2, channel_mult=(1,))
    z = run(model, variables, x, "to_latents")
    assert model.factor == 2 and z.shape == (2, 4, 6, 3)
    places = x.reshape(2, 4, 2, 6, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 4, 6, 12)
    plain = model.clone(patch=1, image_channels=12)
    np.testing.assert_allclose(run(plain, variables, places, "to_latents"), z, atol=1e-6)
    ours, theirs = (run(m, variables, z, "from_latents") for m in (model, plain))
    # The pixel in row 2 i + a, column 2 j + b, is channel (a, b) of place (i, j).
    assert ours.shape == x.shape
    for a in range(2):
        for b in range(2):
            at = 3 * (2 * a + b)
            np.testing.assert_allclose(ours[:, a::2, b::2], theirs[..., at : at + 3], atol=1e-6)


def test_patches_multiply_what_the_levels_halve():
    model = build_model("autoencoder", **TINY, patch=2)
    assert isinstance(model, Autoencoder) and model.factor == 4
    init = lambda x: model.init_with_output(jax.random.key(0), x, method="to_latents")[0]  # noqa: E731
    assert jax.eval_shape(init, X).shape == (2, 2, 3, 3)
    with pytest.raises(ValueError, match="divisible by 4"):
        jax.eval_shape(init, X[:, :6])


@pytest.mark.heavy
def test_half_precision_and_rematerialisation_change_nothing_but_digits(case):
    model, variables, x = case
    z = model.apply(variables, x, method="to_latents")
    before = model.apply(variables, z, method="from_latents")
    for change, tolerance in ((dict(remat=True), 1e-5), (dict(dtype="bfloat16"), 0.1)):
        after = model.clone(**change).apply(variables, z, method="from_latents")
        assert after.dtype == jnp.float32
        np.testing.assert_allclose(after, before, atol=tolerance)


@pytest.mark.heavy
def test_every_parameter_learns(case):
    model, variables, x = case

    def loss(v):
        y, passed = model.apply(v, x)
        total = jnp.mean((y - x) ** 2)
        if isinstance(passed, Posterior):
            return total + jnp.mean(passed.log_variance**2)
        return total + jnp.mean(passed.commitment + passed.codebook)

    grads = jax.jit(jax.grad(loss))(variables)
    still = [k for k, g in jax.tree_util.tree_leaves_with_path(grads) if not jnp.any(g)]
    assert not still


def test_wrong_images_and_latents_are_one_line(case):
    model, variables, _ = case
    for shape in ((1, 7, 8, 3), (1, 8, 8, 1), (8, 8, 3)):
        with pytest.raises(ValueError, match="divisible by 2"):
            jax.eval_shape(model.apply, variables, np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="got latents"):
        model.apply(variables, np.zeros((1, 4, 4, 4), np.float32), method="decode")


def test_an_unknown_bottleneck_is_named():
    with pytest.raises(ValueError, match="'kl' or 'vq'"):
        codec(bottleneck="lq")


def test_a_draw_of_the_posterior_has_its_moments():
    mean, log_variance = np.float32(2.0), np.float32(-1.0)
    noise = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    draws = np.asarray(jax.jit(Posterior(mean, log_variance).sample)(noise))
    assert abs(draws.mean() - 2.0) < 0.02 and abs(draws.var() - np.exp(-1.0)) < 0.02


def test_the_posterior_is_held_to_sane_variances():
    model, variables, x = codec(channel_mult=(1,))
    variables["params"]["quant"]["bias"][3:] = [-99.0, 0.0, 99.0]
    log_variance = run(model, variables, x, "encode").log_variance
    assert float(log_variance.min()) == -30 and float(log_variance.max()) == 20


@functools.partial(jax.jit, static_argnums=(0, 1))
def quantised(q, train, variables, z):
    return q.apply(variables, z, train, mutable=[CODEBOOK])


def quantise(z, train=False, variables=None, **choices):
    q = Quantiser(6, **choices)
    variables = jax.jit(q.init)(jax.random.key(0), z) if variables is None else variables
    return (*jax.device_get(quantised(q, train, variables, z)), variables)


LATENTS = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32) / 6


@pytest.mark.parametrize("normalise", [False, True])
def test_each_latent_becomes_its_nearest_code(normalise):
    out, _, variables = quantise(LATENTS, normalise=normalise)
    z, table = LATENTS, np.asarray(variables["params"]["codes"])
    if normalise:
        z, table = (a / np.linalg.norm(a, axis=-1, keepdims=True) for a in (z, table))
    distance = ((z[..., None, :] - table) ** 2).sum(-1)
    np.testing.assert_array_equal(out.index, distance.argmin(-1))
    np.testing.assert_array_equal(out.index, jax.jit(nearest)(z, table))
    np.testing.assert_allclose(out.z, table[out.index], atol=1e-6)
    error = distance.min(-1).mean(axis=(1, 2)) / 5
    np.testing.assert_allclose(out.commitment, error, rtol=1e-5)
    np.testing.assert_allclose(out.codebook, error, rtol=1e-5)


def test_gradients_go_where_the_paper_sends_them():
    q = Quantiser(6)
    variables = jax.jit(q.init)(jax.random.key(0), LATENTS)

    @jax.jit
    def grads(v, z):
        total = lambda v, z, field: getattr(q.apply(v, z), field).sum()  # noqa: E731
        fields = ("z", "commitment", "codebook")
        return [jax.grad(functools.partial(total, field=f), (0, 1))(v, z) for f in fields]

    through, commitment, codebook = jax.device_get(grads(variables, LATENTS))
    np.testing.assert_allclose(through[1], 1.0, rtol=1e-6)
    assert not np.any(through[0]["params"]["codes"])
    assert np.any(commitment[1]) and not np.any(commitment[0]["params"]["codes"])
    assert np.any(codebook[0]["params"]["codes"]) and not np.any(codebook[1])


def test_codes_that_are_averages_move_by_the_decayed_quotient():
    """van den Oord et al. 2017, eq. 6 to 8; codes that nobody chose stay exactly."""
    _, _, first = quantise(LATENTS, decay=0.9)
    out, after, _ = quantise(LATENTS, True, first, decay=0.9)
    codes, counts = (np.asarray(first[CODEBOOK][k]) for k in ("codes", "counts"))
    assert "params" not in first and not np.any(out.codebook)
    index, z = np.asarray(out.index).reshape(-1), LATENTS.reshape(-1, 5)
    for k in range(6):
        chosen = z[index == k]
        new = 0.9 * counts[k] + 0.1 * len(chosen)
        moved = (0.9 * counts[k] * codes[k] + 0.1 * chosen.sum(0)) / new
        np.testing.assert_allclose(after[CODEBOOK]["codes"][k], moved, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(after[CODEBOOK]["counts"][k], new, rtol=1e-6)
        if not len(chosen):
            np.testing.assert_array_equal(after[CODEBOOK]["codes"][k], codes[k])


def test_averaged_codes_end_at_the_means_of_their_latents_and_only_in_training():
    centres = np.eye(5, dtype=np.float32)[:3]
    z = (centres[np.arange(24) % 3] + 0.01 * np.ones(5, np.float32)).reshape(2, 3, 4, 5)
    _, untouched, variables = quantise(z, decay=0.5)
    assert all(map(np.array_equal, *map(jax.tree.leaves, (untouched, variables))))
    variables = {
        CODEBOOK: {"codes": np.eye(6, 5, dtype=np.float32) / 2, "counts": np.ones(6, np.float32)}
    }
    for _ in range(40):
        out, variables, _ = quantise(z, True, variables, decay=0.5)
    np.testing.assert_allclose(out.z, z, atol=1e-5)
    assert np.isfinite(variables[CODEBOOK]["codes"]).all()
    assert float(out.commitment.max()) < 1e-9
