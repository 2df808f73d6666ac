"""Bounds on the log-likelihood of a latent-variable model: KL, free bits, importance weights."""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array


def gaussian_kl(mean1: Array, log_var1: Array, mean2: Array, log_var2: Array) -> Array:
    """KL of two diagonal Gaussians, per dimension, in nats."""
    gap = log_var2 - log_var1
    return 0.5 * (gap - 1 + jnp.exp(-gap) + (mean1 - mean2) ** 2 * jnp.exp(-log_var2))


def kl_to_prior(mean: Array, log_var: Array) -> Array:
    """`KL(N(mean, exp(log_var)) || N(0, 1))` per dimension, in nats.

    Kingma & Welling 2014, appendix B. `mean`, `log_var`, result `[B, D] float32`.
    """
    zero = jnp.zeros((), mean.dtype)
    return gaussian_kl(mean, log_var, zero, zero)


def log_normal(z: Array, mean: Array, log_var: Array) -> Array:
    """Log density in nats of diagonal Gaussians at `z [..., D]`, summed over D: `[...]`."""
    square = (z - mean) ** 2 * jnp.exp(-log_var)
    return -0.5 * (square + log_var + math.log(2 * math.pi)).sum(-1)


def reparameterise(mean: Array, log_var: Array, noise: Array) -> Array:
    """`z = mean + std noise` (Kingma & Welling 2014, section 2.4), all `[..., D]`."""
    return mean + jnp.exp(0.5 * log_var) * noise


def free_bits(
    kl: Array, level: float, groups: int = 0, over: Literal["batch", "example"] = "batch"
) -> Array:
    """The KL term with `level` nats of each group for free, `[B]` (Kingma et al. 2016, eq. 15).

    Args:
      kl: `[B, D] float32`, per dimension, in nats.
      level: lambda, in nats per group; below it a group has no gradient. 0 leaves the sum as it is.
      groups: equal runs of dimensions that share a level; 0 for every dimension its own.
      over: what has to reach the level: the "batch" mean of a group, as in the paper (the mean of
        the result over the batch is then the paper's sum of maxima), or every "example" by itself.

    Raises:
      ValueError: D does not divide into `groups`.
    """
    size, dims = kl.shape
    if groups and dims % groups:
        raise ValueError(f"free bits: {dims} latent dimensions do not divide into {groups} groups")
    grouped = kl.reshape(size, groups, -1).sum(-1) if groups else kl
    reached = grouped if over == "example" else grouped.mean(0)
    return jnp.where(reached > level, grouped, jnp.asarray(level, kl.dtype)).sum(-1)


def importance_bound(log_weights: Array) -> Array:
    """`log 1/K sum_k w_k` of `log_weights [K, B]`, `[B]` in nats (Burda et al. 2016, eq. 8).

    `log w_k = log p(x, z_k) - log q(z_k | x)` of K samples of the posterior. K = 1 is a sample of
    the ELBO; in expectation the bound rises with K, to `log p(x)`.
    """
    return jax.nn.logsumexp(log_weights, axis=0) - math.log(len(log_weights))


def effective_samples(log_weights: Array) -> Array:
    """`(sum w)^2 / sum w^2` of `log_weights [K, B]`, `[B]` in 1 .. K: how many samples the bound
    rests on (Kong 1992)."""
    lse = jax.nn.logsumexp
    return jnp.exp(2 * lse(log_weights, axis=0) - lse(2 * log_weights, axis=0))
