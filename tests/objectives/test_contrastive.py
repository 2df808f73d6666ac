"""Contrastive losses: their formulas in float64, what they are at the ends, their symmetries."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.objectives.contrastive import sigmoid_contrastive, softmax_contrastive
from diffjax.objectives.spread import Contrastive

LOG_SCALE, BIAS = np.log(np.float32(1 / 0.07)), np.float32(-3)
SOFTMAX, SIGMOID = jax.jit(softmax_contrastive), jax.jit(sigmoid_contrastive)


@functools.cache
def compiled(*choices):
    return jax.jit(Contrastive(*choices))


@pytest.fixture
def pairs():
    draw = np.random.default_rng(0)
    image = draw.standard_normal((12, 8)).astype(np.float32)
    return image, (0.7 * image + draw.standard_normal((12, 8))).astype(np.float32)


def logits(image, text, bias=0.0):
    image, text = (x.astype(np.float64) for x in (image, text))
    image, text = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text))
    return np.exp(LOG_SCALE) * image @ text.T + bias


def test_softmax_is_the_cross_entropy_of_both_directions(pairs):
    found = logits(*pairs)
    entropies = [np.log(np.exp(m).sum(1)) - np.diag(m) for m in (found, found.T)]
    got = np.asarray(SOFTMAX(*pairs, LOG_SCALE))
    assert got.shape == (12,) and got.dtype == jnp.float32
    np.testing.assert_allclose(got, np.mean(entropies, 0), rtol=2e-5)


def test_sigmoid_is_the_papers_sum_over_all_pairings(pairs):
    signs = 2 * np.eye(12) - 1
    terms = np.log1p(np.exp(-signs * logits(*pairs, BIAS)))
    got = np.asarray(SIGMOID(*pairs, LOG_SCALE, BIAS))
    np.testing.assert_allclose(got, (terms.sum(0) + terms.sum(1)) / 2, rtol=2e-5)
    np.testing.assert_allclose(got.mean(), terms.sum() / 12, rtol=2e-5)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_lengths_order_and_roles_do_not_matter(pairs, kind):
    loss, (image, text) = compiled(kind), pairs
    first, found = loss(image, text, LOG_SCALE, BIAS)
    scaled, _ = loss(3.0 * image, (0.1 * text).astype(jnp.float32), LOG_SCALE, BIAS)
    np.testing.assert_allclose(scaled, first, rtol=1e-5)
    turned, swapped = loss(text, image, LOG_SCALE, BIAS)
    np.testing.assert_allclose(turned, first, rtol=1e-5)
    np.testing.assert_array_equal(swapped["image_to_text"], found["text_to_image"])
    order = np.random.default_rng(1).permutation(12)
    moved, _ = loss(image[order], text[order], LOG_SCALE, BIAS)
    np.testing.assert_allclose(moved, np.asarray(first)[order], rtol=1e-5)


def test_softmax_at_its_ends():
    basis = np.eye(6, dtype=np.float32)
    alike = np.ones((6, 6), np.float32)
    np.testing.assert_allclose(SOFTMAX(alike, alike, LOG_SCALE), np.log(6), rtol=1e-6)
    sure = SOFTMAX(basis, basis, np.log(np.float32(60)))
    # log(1 + 5 exp(-60)) in float32: tiny, and neither zero nor below it.
    np.testing.assert_allclose(sure, 5 * np.exp(-60.0), rtol=1e-4)
    assert SOFTMAX(basis[:1], basis[:1], LOG_SCALE).tolist() == [0.0]


def test_sigmoid_of_a_single_pair():
    one = SIGMOID(np.ones((1, 4)), np.ones((1, 4)), 0.0, -2.0)
    np.testing.assert_allclose(one, np.log1p(np.exp(1.0)), rtol=1e-6)


def test_accuracy_counts_the_pairs_found(pairs):
    image, text = pairs
    found = jax.device_get(compiled()(image, text, LOG_SCALE)[1])
    matrix = logits(image, text)
    np.testing.assert_array_equal(found["image_to_text"], matrix.argmax(1) == np.arange(12))
    np.testing.assert_array_equal(found["text_to_image"], matrix.argmax(0) == np.arange(12))
    assert 0 < found["image_to_text"].mean() < 1
    # Towers that have collapsed find nothing.
    collapsed = compiled()(np.ones((12, 8), "f4"), np.ones((12, 8), "f4"), LOG_SCALE)[1]
    assert not any(np.any(v) for v in collapsed.values())


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_a_zero_embedding_has_a_gradient(kind):
    def mean(image):
        return Contrastive(kind)(image, jnp.eye(4), 0.0, 0.0)[0].mean()

    image = np.eye(4, dtype=np.float32)
    image[0] = 0
    assert np.isfinite(jax.jit(jax.grad(mean))(image)).all()


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_half_precision_embeddings_are_compared_in_single(pairs, kind):
    image, text = (x.astype(jnp.bfloat16) for x in pairs)
    wide, scale = (x.astype(np.float32) for x in (image, text)), np.log(np.float32(100))
    half, _ = compiled(kind)(image, text, scale, BIAS)
    full, _ = compiled(kind)(*wide, scale, BIAS)
    assert half.dtype == jnp.float32
    np.testing.assert_array_equal(half, full)


@pytest.mark.parametrize("spread", ["gathered", "ring"])
def test_without_a_mesh_every_spread_is_the_plain_form(pairs, spread):
    plain, found = compiled("softmax", spread)(*pairs, LOG_SCALE)
    np.testing.assert_array_equal(plain, SOFTMAX(*pairs, LOG_SCALE))
    assert set(found) == {"image_to_text", "text_to_image"}


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="unknown contrastive kind 'sofmax'; did you mean"):
        Contrastive("sofmax")
    with pytest.raises(ValueError, match="unknown contrastive spread 'rings'; did you mean 'ring'"):
        Contrastive("softmax", "rings")
    with pytest.raises(ValueError, match=r"image \(2, 3\) and text \(3, 3\) must be"):
        Contrastive()(jnp.ones((2, 3)), jnp.ones((3, 3)), 0.0)
