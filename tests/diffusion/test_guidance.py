"""Guidance in x_hat is guidance of the network; interval, rescale, threshold do what they say."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.diffusion.guidance import Guidance, bounded, classifier_free
from diffjax.diffusion.levels import Level
from diffjax.diffusion.predictions import PREDICTIONS
from diffjax.diffusion.sampling import Estimate
from diffjax.diffusion.schedules import Cosine, RectifiedFlow

SHAPE = (4, 6, 6, 2)
COND, NULL = jnp.array([1.0, 2.0, 3.0, 4.0]), jnp.zeros(4)


def network(z, label):
    """A smooth function of the state and a condition `[B]`."""
    label = label.reshape(-1, *(1,) * (z.ndim - 1))
    return jnp.tanh(z * (1 + 0.3 * label)) + 0.2 * jnp.sin(3 * z + label)


def denoise(z, at, to, label):
    return Estimate(network(z, label), 0.1 * network(z, label))


@pytest.fixture
def z(normals):
    return normals(SHAPE)


@pytest.fixture
def level():
    return Level(*(jnp.float32(a) for a in Cosine().level(np.float64(600))))


@pytest.mark.parametrize("name", sorted(PREDICTIONS))
@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0, 7.5])
def test_guiding_x_hat_is_guiding_the_network(name, scale, z, level):
    """All predictions are affine in x_hat (Ho & Salimans 2022, eq. 6 on the output)."""
    prediction = PREDICTIONS[name]()

    def by_prediction(z, at, to, label):
        return Estimate(prediction.to_x(network(z, label), z, at))

    guided = classifier_free(by_prediction, COND, NULL, Guidance(scale=scale))(z, level, level)
    output = network(z, NULL) + scale * (network(z, COND) - network(z, NULL))
    np.testing.assert_allclose(guided.x, prediction.to_x(output, z, level), rtol=1e-4, atol=1e-4)


def test_channels_beyond_those_guided_are_the_conditional_ones(z, level):
    guided, plain, part = (
        classifier_free(denoise, COND, NULL, guidance)(z, level, level).x
        for guidance in (Guidance(scale=3.0), Guidance(), Guidance(scale=3.0, channels=1))
    )
    np.testing.assert_array_equal(part[..., :1], guided[..., :1])
    np.testing.assert_allclose(part[..., 1:], plain[..., 1:], rtol=1e-6)
    assert np.abs(guided[..., 1:] - plain[..., 1:]).max() > 0.01


def test_scale_one_is_plain_and_asks_the_network_once(z, level):
    calls = []

    def counted(z, at, to, label):
        calls.append(len(z))
        return denoise(z, at, to, label)

    plain = classifier_free(counted, COND, NULL, Guidance(scale=1.0))(z, level, level)
    np.testing.assert_array_equal(plain.x, denoise(z, level, level, COND).x)
    np.testing.assert_array_equal(plain.v, denoise(z, level, level, COND).v)
    assert calls == [4]
    classifier_free(counted, COND, NULL, Guidance(scale=2.0))(z, level, level)
    assert calls == [4, 8]


def test_scale_zero_is_the_null_condition_and_variance_the_conditional(z, level):
    estimate = classifier_free(denoise, COND, NULL, Guidance(scale=0.0))(z, level, level)
    np.testing.assert_allclose(estimate.x, denoise(z, level, level, NULL).x, atol=1e-6)
    np.testing.assert_allclose(estimate.v, denoise(z, level, level, COND).v, atol=1e-6)


def test_negative_condition_takes_the_null_ones_place(z, level):
    negative = jnp.array([4.0, 3.0, 2.0, 1.0])
    guided = classifier_free(denoise, COND, negative, Guidance(scale=2.0))(z, level, level)
    expected = 2 * network(z, COND) - network(z, negative)
    np.testing.assert_allclose(guided.x, expected, atol=1e-5)


def test_conditions_may_be_trees(z, level):
    cond, null = {"label": COND, "text": z}, {"label": NULL, "text": 0 * z}

    def joint(z, at, to, c):
        return Estimate(network(z, c["label"]) + c["text"])

    guided = classifier_free(joint, cond, null, Guidance(scale=2.0))(z, level, level)
    expected = 2 * (network(z, COND) + z) - network(z, NULL)
    np.testing.assert_allclose(guided.x, expected, atol=1e-5)


def test_interval_guides_inside_alone(z):
    """Kynkäänniemi et al. 2024: low < sigma / alpha <= high; on both sides the plain estimate."""
    guidance = Guidance(scale=4.0, low=0.5, high=2.0)
    run = jax.jit(classifier_free(denoise, COND, NULL, guidance))
    guided = classifier_free(denoise, COND, NULL, Guidance(scale=4.0))
    for ratio, inside in [(0.2, False), (0.51, True), (1.0, True), (1.99, True), (3.0, False)]:
        unit = np.hypot(1, ratio)
        level = Level(*(jnp.float32(a) for a in (0.0, 1 / unit, ratio / unit)))
        expected = guided(z, level, level) if inside else denoise(z, level, level, COND)
        np.testing.assert_allclose(run(z, level, level).x, expected.x, atol=1e-5)


def v_of(x, z, level):
    return (level.alpha * z - x) / level.sigma  # alpha eps - sigma x, variance preserving


def test_rescale_restores_the_spread(z, level):
    """Lin et al. 2023, eq. 15: at phi = 1 each image's v has the conditional one's deviation."""
    guided = classifier_free(denoise, COND, NULL, Guidance(scale=6.0, rescale=1.0))(z, level, level)
    plain = classifier_free(denoise, COND, NULL, Guidance(scale=6.0))(z, level, level)
    std = lambda x: np.std(v_of(x, z, level), axis=(1, 2, 3))  # noqa: E731
    np.testing.assert_allclose(std(guided.x), std(denoise(z, level, level, COND).x), rtol=1e-4)
    assert np.all(std(plain.x) > 1.1 * std(guided.x))
    half = classifier_free(denoise, COND, NULL, Guidance(scale=6.0, rescale=0.5))(z, level, level)
    np.testing.assert_allclose(std(half.x), (std(plain.x) + std(guided.x)) / 2, rtol=1e-4)


def test_rescale_at_full_noise_rescales_the_image(z):
    """At alpha = 0, where Lin et al. need it most, v = -x: finite, and the image's own spread."""
    level = Level(*(jnp.float32(a) for a in RectifiedFlow().level(1.0)))
    guided = classifier_free(denoise, COND, NULL, Guidance(scale=6.0, rescale=1.0))(z, level, level)
    np.testing.assert_allclose(
        np.std(guided.x, axis=(1, 2, 3)), np.std(network(z, COND), axis=(1, 2, 3)), rtol=1e-4
    )


def test_dynamic_threshold(normals, level):
    """Saharia et al. 2022: clip to the percentile of |x_hat| and divide by it, if above 1."""
    x = normals(SHAPE) * jnp.array([0.2, 1.0, 2.0, 5.0]).reshape(4, 1, 1, 1)
    out = bounded(lambda *_: Estimate(x), Guidance(threshold=90.0))(x, level, level).x
    np.testing.assert_allclose(out[0], x[0], atol=1e-6)  # already within [-1, 1]
    for i in (2, 3):
        bound = np.percentile(np.abs(np.asarray(x[i], np.float64)), 90.0)
        expected = np.clip(x[i], -bound, bound) / bound
        np.testing.assert_allclose(out[i], expected, atol=1e-5)
        assert np.mean(np.abs(out[i]) > 1 - 1e-6) == pytest.approx(0.1, abs=0.03)


def test_clip(normals, level):
    x = 3 * normals(SHAPE)
    out = bounded(lambda *_: Estimate(x, x), Guidance(clip=True))(x, level, level)
    np.testing.assert_array_equal(out.x, np.clip(x, -1, 1))
    wide = bounded(lambda *_: Estimate(x, x), Guidance(clip=True, clip_range=1.5))(x, level, level)
    np.testing.assert_array_equal(wide.x, np.clip(x, -1.5, 1.5))
    np.testing.assert_array_equal(out.v, x)
    np.testing.assert_array_equal(out.v, x)
    same = lambda *_: Estimate(x)  # noqa: E731
    assert bounded(same, Guidance()) is same
