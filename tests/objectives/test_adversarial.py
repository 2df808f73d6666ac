"""Adversarial losses by hand, the adaptive weight, and gradients that are handed on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.objectives.adversarial import (
    GAN_LOSSES,
    LARGEST,
    adaptive_weight,
    gradient_of,
    with_gradient,
)


def test_the_hinge_asks_for_a_margin_and_no_more():
    real, fake = jnp.array([[2.0, 0.5], [1.0, 1.0]]), jnp.array([[-3.0, 0.0], [-1.0, -2.0]])
    game = GAN_LOSSES["hinge"]
    # (0 + 0.5) / 2 of the real ones, (0 + 1) / 2 of the made ones; then beyond both margins.
    np.testing.assert_allclose(game.discriminator(real, fake), [0.375, 0.0])
    np.testing.assert_allclose(game.generator(fake), [1.5, 1.5])


def test_the_logistic_game_is_cross_entropy():
    real, fake = np.array([[0.3]]), np.array([[-1.2]])
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    game = GAN_LOSSES["logistic"]
    expected = -0.5 * (np.log(sigmoid(0.3)) + np.log(1 - sigmoid(-1.2)))
    np.testing.assert_allclose(game.discriminator(real, fake), [expected], rtol=1e-5)
    np.testing.assert_allclose(game.generator(fake), [-np.log(sigmoid(-1.2))], rtol=1e-5)


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_a_game_pulls_both_ways(name):
    """The discriminator parts the logits, the generator raises those of what it makes."""
    real, fake = jnp.zeros((3, 2, 2)), jnp.zeros((3, 2, 2))
    game = GAN_LOSSES[name]
    up, down = jax.grad(lambda r, f: game.discriminator(r, f).sum(), argnums=(0, 1))(real, fake)
    assert (up < 0).all() and (down > 0).all()
    assert (jax.grad(lambda f: game.generator(f).sum())(fake) < 0).all()


def test_the_weight_is_the_ratio_of_norms_within_bounds():
    a, b = {"x": jnp.array([3.0, 0.0]), "y": jnp.array([4.0])}, jnp.array([2.0])
    np.testing.assert_allclose(adaptive_weight(a, b), 2.5, rtol=1e-4)
    assert float(adaptive_weight(a, jnp.zeros(2))) == LARGEST
    assert float(adaptive_weight(jnp.zeros(2), b)) == 0.0
    weigh = lambda scale: adaptive_weight(a, scale * b)  # noqa: E731
    assert float(jax.grad(weigh)(1.0)) == 0.0


def test_a_gradient_handed_on_is_the_gradient():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 2)), jnp.float32)
    loss = lambda x: (jnp.sin(x).sum((1, 2)) ** 2, x.max())  # noqa: E731
    value, most, gradient = gradient_of(loss, x)
    np.testing.assert_allclose(value, loss(x)[0], rtol=1e-6)
    assert float(most) == float(x.max())
    # Behind another function of other variables, as behind a decoder.
    plain = jax.grad(lambda w: loss(jnp.tanh(w * x))[0].mean())(0.7)

    def handed(w):
        made = jnp.tanh(w * x)
        value, _, gradient = gradient_of(loss, made)
        return with_gradient(value, made, gradient).mean()

    got, slope = jax.value_and_grad(handed)(0.7)
    np.testing.assert_allclose(got, loss(jnp.tanh(0.7 * x))[0].mean(), rtol=1e-6)
    np.testing.assert_allclose(slope, plain, rtol=1e-5)
    assert gradient.shape == x.shape
