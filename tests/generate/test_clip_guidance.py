"""Samples that a CLIP's gradient moves towards their texts: pixels, latents, noised states."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_variables import random_variables

from diffjax.denoisers.clip_guide import ClipGuide
from diffjax.denoisers.conditions import make_conditions
from diffjax.denoisers.cutouts import cut_out, whole
from diffjax.denoisers.embeddings import EmbeddingSpace, ImageTower
from diffjax.denoisers.model import DiffusionModel
from diffjax.denoisers.spaces import DataSpace, LatentSpace
from diffjax.diffusion.predictions import V
from diffjax.diffusion.schedules import Cosine
from diffjax.generate.inpaint import inpaint
from diffjax.generate.invert import encode
from diffjax.generate.sample import sample, trajectory
from diffjax.models import build_model
from diffjax.models.clip import ImageEncoder

SHAPE, B, L, VOCAB = (16, 16, 3), 3, 5, 20
CODEC = build_model(
    "autoencoder", channels=4, channel_mult=(1,), patch=2, blocks=1, latent_channels=2,
    norm_groups=2, scale=1.5, shift=0.25,
)  # fmt: skip
TOKENS = np.random.default_rng(0).integers(0, VOCAB, (B, L)).astype(np.int32)
INDEX = np.arange(B, dtype=np.int32)
# From a level with signal: elsewhere the slope of a network that was not trained means nothing.
RECIPE = dict(steps=4, sampler="ddim", spacing="leading", guidance=1.0)


def guide_of(noised=False, size=8):
    image = dict(type="vit", width=8, depth=1, heads=2, patch=4, image_size=size, noised=noised)
    network = build_model(
        "clip", embed=6, image=image, text=dict(width=8, depth=1, heads=2, context=L, vocab=VOCAB)
    )
    held = random_variables(network.init, jnp.zeros((1, size, size, 3)), TOKENS[:1], std=0.3)
    held["params"]["logit_scale"] = jnp.float32(np.log(20.0))
    return ClipGuide(network, held, size)


@functools.cache
def guide(noised=False, size=8):
    return guide_of(noised, size)


@functools.cache
def model(latent=False):
    """(a model without conditions, its variables)."""
    space = LatentSpace(CODEC, SHAPE) if latent else DataSpace(SHAPE)
    network = build_model("dit", width=16, depth=1, heads=2, patch=4, out_channels=space.shape[-1])
    found = DiffusionModel(network, space, Cosine(), V())
    spec = {"image": jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32)}
    return found, random_variables(found.init, spec, std=0.1)


def draw(latent=False, own=None, rows=INDEX, fn=sample, **changes):
    found, held = model(latent)
    cond = {"clip_tokens": TOKENS[rows]}
    own = guide() if own is None else own
    options = {**RECIPE, "clip_guide": own, **changes}
    return np.asarray(fn(found, held, np.int32(0), np.int32(rows), cond, **options))


def fits(images, own=None):
    own = own or guide()
    return np.asarray(own.fit(whole(images, own.size), own.texts(TOKENS)))


@pytest.mark.parametrize("latent", [False, pytest.param(True, marks=pytest.mark.heavy)])
def test_scale_nought_is_plain_sampling_bit_for_bit(latent):
    found, held = model(latent)
    plain = sample(found, held, np.int32(0), INDEX, **RECIPE)
    np.testing.assert_array_equal(draw(latent, clip_guidance=0.0), plain)
    assert np.abs(draw(latent, clip_guidance=1.0) - plain).max() > 1e-4


@pytest.mark.parametrize("latent", [False, True])
def test_images_fit_their_texts_better_the_larger_the_scale(latent):
    means = [fits(draw(latent, clip_guidance=s)).mean() for s in (0.0, 0.5, 2.0)]
    assert means[0] < means[1] < means[2]


def test_a_sample_depends_on_no_other_of_its_batch():
    options = dict(clip_guidance=2.0, cutouts=3)
    y = draw(**options)
    np.testing.assert_allclose(draw(rows=INDEX[::-1], **options)[::-1], y, atol=1e-4)
    np.testing.assert_allclose(draw(rows=INDEX[:1], **options), y[:1], atol=1e-4)
    assert np.abs(draw(**{**options, "cutouts": 0}) - y).max() > 1e-4
    again = draw(fn=trajectory, **options)
    np.testing.assert_allclose(again[-1], y, atol=1e-5)


def test_a_noised_clip_is_told_the_state_and_its_level():
    found, held = model()
    own = guide(noised=True, size=16)
    plain = np.asarray(sample(found, held, np.int32(0), INDEX, **RECIPE))
    moved = draw(own=own, clip_guidance=0.2)
    assert np.isfinite(moved).all() and np.abs(moved - plain).max() > 1e-4
    text = own.texts(TOKENS)
    x = np.random.default_rng(1).standard_normal((B, *SHAPE)).astype("f4")
    clean, told = own.fit(x, text), own.fit(x, text, jnp.full(B, -5.0))
    np.testing.assert_allclose(own.fit(x, text, jnp.full(B, 20.0)), clean, rtol=1e-5)
    assert np.abs(told - clean).max() > 1e-4
    fit = own.log_likelihood(found.space, {}, None, text, None)
    at = found.schedule.level(jnp.float32(600))
    expected = own.fit(x, text, jnp.full(B, at.logsnr))
    np.testing.assert_allclose(fit(x, jnp.zeros_like(x), at), expected, rtol=1e-5)


def test_cutouts_are_squares_of_the_image_by_their_rows_own_keys():
    ramp = np.linspace(-1, 1, 32)[None, :, None, None] + np.zeros((2, 32, 32, 3))
    image = jnp.float32(ramp)
    keys = jax.random.split(jax.random.key(0), 2)
    seen = np.asarray(cut_out(image, keys, 40, 8, 1.0))
    assert seen.shape == (2, 40, 8, 8, 3)
    np.testing.assert_allclose(seen.mean((3, 4)), seen[:, :, :, 0, 0], atol=1e-5)
    # Of a ramp, a cut-out's slope says its side: from 8 pixels to all 32.
    slope = (seen[:, :, 5, 4, 0] - seen[:, :, 3, 4, 0]) / 2 * 31 / 2
    side = 8 * slope
    assert side.min() > 7.9 and side.max() < 32.1 and side.std() > 3
    small = np.asarray(cut_out(image, keys, 40, 8, 8.0))
    assert np.abs(np.diff(small[:, :, 3:6, 4, 0], axis=-1)).mean() < np.abs(slope).mean() * 2 / 31
    turned = np.asarray(cut_out(image, keys[::-1], 40, 8, 1.0))
    np.testing.assert_array_equal(turned[::-1], seen)
    # An image of the tower's own size is seen whole.
    same = jnp.float32(np.random.default_rng(0).uniform(size=(2, 8, 8, 3)))
    np.testing.assert_allclose(cut_out(same, keys, 1, 8, 1.0)[:, 0], same, atol=1e-5)


def test_the_known_part_of_an_image_stays():
    found, held = model()
    image = np.full((B, *SHAPE), 0.4, "f4")
    mask = np.zeros((B, 16, 16, 1), "f4")
    mask[:, 8:] = 1
    cond = {"clip_tokens": TOKENS}
    options = {**RECIPE, "clip_guide": guide(), "clip_guidance": 2.0}
    drawn = np.asarray(inpaint(found, held, np.int32(0), INDEX, image, mask, cond, **options))
    np.testing.assert_allclose(drawn[:, :8], 0.4, atol=1e-6)
    assert np.abs(drawn[:, 8:] - 0.4).max() > 0.1


def test_what_cannot_be_guided_is_refused_in_a_line():
    found, held = model()
    args = (found, held, np.int32(0), INDEX)
    options = {**RECIPE, "clip_guidance": 1.0}
    for said, cond, more in (
        ("add a section clip_guide", {"clip_tokens": TOKENS}, {}),
        ("give `tokens`, or `clip_tokens`", None, {"clip_guide": guide()}),
        (r"told the level of noised images \(8, 8, 3\)", {"clip_tokens": TOKENS},
         {"clip_guide": guide(noised=True)}),
        ("cutouts=2: .* set cutouts=0", {"clip_tokens": TOKENS},
         {"clip_guide": guide(noised=True, size=16), "cutouts": 2}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said) as error:
            sample(*args, cond, **options, **more)
        assert "\n" not in str(error.value)
    tower = ImageTower(ImageEncoder(guide().network.image.clone()))
    prior = replace(found, space=EmbeddingSpace(tower))
    with pytest.raises(ValueError, match="draws embeddings"):
        sample(prior, held, np.int32(0), INDEX, {"clip_tokens": TOKENS}, **options,
               clip_guide=guide())  # fmt: skip
    with pytest.raises(ValueError, match="leave clip_guidance out"):
        encode(found, held, np.zeros((B, *SHAPE), "f4"), sampler="ddim", clip_guidance=1.0)


def test_texts_of_a_text_conditional_model_are_its_own():
    """`tokens` are read by both; the network's conditions do not see `clip_tokens`."""
    found, _ = model()
    section = dict(
        type="learned_text", encoder=dict(type="glide_text", vocab=VOCAB, context=L, width=8,
                                          depth=1, heads=2), null_ids=(0,) * L, to="vector",
    )  # fmt: skip
    conditions = make_conditions({"caption": section}, 0, found.space, {})
    network = build_model("dit", width=16, depth=1, heads=2, patch=4, out_channels=3, vector_dim=8)
    found = DiffusionModel(network, found.space, Cosine(), V(), conditions)
    spec = {"image": jax.ShapeDtypeStruct((1, *SHAPE), "f4"),
            "tokens": jax.ShapeDtypeStruct((1, L), "i4")}  # fmt: skip
    held = random_variables(found.init, spec, std=0.1)
    options = {**RECIPE, "clip_guide": guide(), "clip_guidance": 2.0}

    def draw(**cond):
        return np.asarray(sample(found, held, np.int32(0), INDEX, cond, **options))

    alone = sample(found, held, np.int32(0), INDEX, TOKENS, **options)
    np.testing.assert_array_equal(alone, draw(tokens=TOKENS))
    same, other = draw(tokens=TOKENS), draw(tokens=TOKENS, clip_tokens=TOKENS[::-1])
    np.testing.assert_array_equal(draw(tokens=TOKENS, clip_tokens=TOKENS), same)
    assert np.abs(other - same).max() > 1e-4
