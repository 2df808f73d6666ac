"""Adversarial losses of a discriminator's logits, and how they are weighed against another loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

# What `adaptive_weight` is held to, and what keeps its quotient finite, as in the original code.
LARGEST, DELTA = 1e4, 1e-4


class GANLoss(NamedTuple):
    """Two losses of logits `[B, ...]`, each one value per example, `[B] float32`.

    Attributes:
      discriminator: of the logits of real images and of made ones.
      generator: of the logits of made ones.
    """

    discriminator: Callable[[Array, Array], Array]
    generator: Callable[[Array], Array]


def _mean(x: Array) -> Array:
    return x.astype(jnp.float32).reshape(len(x), -1).mean(-1)


GAN_LOSSES: dict[str, GANLoss] = {
    # Lim & Ye 2017; half the sum, as Esser et al. 2021 have it.
    "hinge": GANLoss(
        lambda real, fake: _mean(0.5 * (jax.nn.relu(1.0 - real) + jax.nn.relu(1.0 + fake))),
        lambda fake: -_mean(fake),
    ),
    # Goodfellow et al. 2014, section 3: cross-entropy, the generator's not saturating.
    "logistic": GANLoss(
        lambda real, fake: _mean(0.5 * (jax.nn.softplus(-real) + jax.nn.softplus(fake))),
        lambda fake: _mean(jax.nn.softplus(-fake)),
    ),
}


def adaptive_weight(gradient: Any, adversarial: Any) -> Array:
    """`|gradient| / (|adversarial| + DELTA)`, [] float32 in [0, LARGEST], a constant.

    Esser et al. 2021, eq. 7: of the reconstruction loss and of the generator's, both with respect
    to the decoder's last layer.
    """
    ratio = _norm(gradient) / (_norm(adversarial) + DELTA)
    return jax.lax.stop_gradient(jnp.clip(ratio, 0.0, LARGEST))


def _norm(tree: Any) -> Array:
    return jnp.sqrt(sum(jnp.sum(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(tree)))


def gradient_of(loss: Callable[[Array], tuple[Array, Any]], x: Array) -> tuple[Array, Any, Array]:
    """`(value [B], others, gradient)` of a loss per example, `loss(x) = (value, others)`, where the
    gradient is of the sum of values, shaped as `x [B, ...]`.

    All are constants, whatever `x` was computed from.
    """
    value, pull, others = jax.vjp(loss, jax.lax.stop_gradient(x), has_aux=True)
    return value, others, pull(jnp.ones_like(value))[0]


def with_gradient(value: Array, x: Array, gradient: Array) -> Array:
    """`value [B]`, whose derivative with respect to `x [B, ...]` is `gradient`.

    So a gradient that was needed for a weight is used, and not computed again.
    """
    along = jnp.sum((x * jax.lax.stop_gradient(gradient)).reshape(len(x), -1), axis=-1)
    return jax.lax.stop_gradient(value) + (along - jax.lax.stop_gradient(along))
