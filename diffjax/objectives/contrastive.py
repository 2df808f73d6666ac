"""Contrastive losses over the pairs of a batch, and how often a pair is found among the others.

Logits are `l_ij = exp(log_scale) <x_i, y_j> + bias` of unit vectors x (images) and y (texts); pair
i is (x_i, y_i), all others of row and column i are its rivals. A loss is made of statistics of the
logits, so that the forms spread over devices (`spread.py`) share the formulas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

# The logit of what is no rival. An infinite one would make NaN of a batch of one pair.
NONE = -1e30


class Statistics(NamedTuple):
    """Statistics of the logits for every pair, each `[B] float32`.

    Attributes:
      own: the pair's logit.
      row, column: its rivals joined (`Kind.reduce`), the other texts and the other images.
      row_best, column_best: its largest rival.
    """

    own: Array
    row: Array
    column: Array
    row_best: Array
    column_best: Array


@dataclass(frozen=True)
class Kind:
    """A loss over pairs.

    Attributes:
      reduce: `(rivals [R, C], axis) -> ` one number per row or column.
      join: `(parts [n, ...], axis) -> [...]`, the reduction of the whole from those of its parts.
      slope: `(rivals, reduced) ->` derivative of the reduction by each rival.
      loss: `(own, row, column) [B] -> [B]`.
    """

    reduce: Callable[[Array, int], Array]
    join: Callable[[Array, int], Array]
    slope: Callable[[Array, Array], Array]
    loss: Callable[[Array, Array, Array], Array]


def _softmax_loss(own: Array, row: Array, column: Array) -> Array:
    # log(exp(own) + exp(row)) - own: positive however sure the network is.
    return 0.5 * (jax.nn.softplus(row - own) + jax.nn.softplus(column - own))


def _sigmoid_loss(own: Array, row: Array, column: Array) -> Array:
    return jax.nn.softplus(-own) + 0.5 * (row + column)


KINDS = {
    "softmax": Kind(
        reduce=lambda rivals, axis: jax.nn.logsumexp(rivals, axis=axis),
        join=lambda parts, axis: jax.nn.logsumexp(parts, axis=axis),
        slope=lambda rivals, reduced: jnp.exp(rivals - reduced),
        loss=_softmax_loss,
    ),
    "sigmoid": Kind(
        reduce=lambda rivals, axis: jax.nn.softplus(rivals).sum(axis),
        join=lambda parts, axis: parts.sum(axis),
        slope=lambda rivals, reduced: jax.nn.sigmoid(rivals),
        loss=_sigmoid_loss,
    ),
}


def unit(x: Array) -> Array:
    """`x [B, E]` as float32 of length one; zero stays zero, with a gradient."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum((x * x).sum(-1, keepdims=True), 1e-24))


def cosines(image: Array, text: Array) -> Array:
    """`[R, C] float32` of unit vectors `[R, E]` and `[C, E]`; a scale of 100 forgives no rounding,
    so not in the accelerators' faster, shorter arithmetic."""
    return jnp.matmul(image, text.T, precision="highest")


def statistics(kind: Kind, image: Array, text: Array, scale: Array, bias: Array) -> Statistics:
    """Statistics of unit vectors `[B, E]`, from the whole matrix of logits."""
    logits = scale * cosines(image, text) + bias
    same = jnp.eye(len(logits), dtype=bool)
    own, rivals = split(logits, same)
    best = jax.lax.stop_gradient(rivals)
    return Statistics(own, kind.reduce(rivals, 1), kind.reduce(rivals, 0), best.max(1), best.max(0))


def split(logits: Array, same: Array) -> tuple[Array, Array]:
    """The pairs' own logits `[R]` (0 where `same [R, C]` has none), and the rivals `[R, C]`."""
    return jnp.where(same, logits, 0.0).sum(1), jnp.where(same, NONE, logits)


def found(stats: Statistics) -> dict[str, Array]:
    """In-batch accuracy, `[B] float32` each: `image_to_text` is 1 where the pair's text is nearer
    to its image than all other texts, `text_to_image` the reverse. A tie counts as not found."""
    return {
        "image_to_text": (stats.own > stats.row_best).astype(jnp.float32),
        "text_to_image": (stats.own > stats.column_best).astype(jnp.float32),
    }


def softmax_contrastive(image: Array, text: Array, log_scale: Array) -> Array:
    """Symmetric cross-entropy of finding each pair among the batch, in nats.

    Radford et al. 2021, figure 3 (InfoNCE, van den Oord et al. 2018, eq. 4, in both directions).

    Args:
      image, text: `[B, E]` of any length; normalised here.
      log_scale: `[]`, the log of the inverse temperature.

    Returns:
      `[B] float32`, the mean of a pair's two directions.
    """
    return _loss("softmax", image, text, log_scale, jnp.float32(0))


def sigmoid_contrastive(image: Array, text: Array, log_scale: Array, bias: Array) -> Array:
    """Binary cross-entropy of every pairing of the batch: Zhai et al. 2023, algorithm 1.

    Args:
      image, text: `[B, E]` of any length; normalised here.
      log_scale, bias: `[]`; the paper starts at log(10) and -10.

    Returns:
      `[B] float32`: the pair's own term and half the terms of its row and of its column, so that
      the mean over the batch is the paper's loss.
    """
    return _loss("sigmoid", image, text, log_scale, bias)


def _loss(kind: str, image: Array, text: Array, log_scale: Array, bias: Array) -> Array:
    scale = jnp.exp(jnp.asarray(log_scale, jnp.float32))
    stats = statistics(KINDS[kind], unit(image), unit(text), scale, jnp.asarray(bias, jnp.float32))
    return KINDS[kind].loss(stats.own, stats.row, stats.column)
