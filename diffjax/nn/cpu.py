"""What makes the same mathematics fast on a CPU, chosen when a program is lowered.

Measured against profiles of a small U-Net's train step. XLA's CPU backend (1) copies cheap
arithmetic into every consumer, so that a chain of residual blocks is evaluated over and over in
the backward pass, and inside transpositions at that: `fence` stops it; (2) sums over a leading
axis one row at a time, without vector instructions: `sum_rows` first adds four quarters, which
vectorises and leaves a quarter of the rows (1.6 to 3 times as fast).
On other platforms both are the plain thing. Reverse mode only.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax


def _barrier(x: Array) -> Array:
    return lax.platform_dependent(x, cpu=lax.optimization_barrier, default=lambda y: y)


@jax.custom_vjp
def fence(x: Array) -> Array:
    """`x`, computed once and stored, as is its cotangent."""
    return _barrier(x)


fence.defvjp(lambda x: (_barrier(x), None), lambda _, ct: (_barrier(ct),))


@jax.custom_vjp
def fence_cotangent(x: Array) -> Array:
    """`x`, whose cotangent is computed once and stored."""
    return x


fence_cotangent.defvjp(lambda x: (x, None), lambda _, ct: (_barrier(ct),))


def sum_rows(x: Array) -> Array:
    """`[B, N, C] -> [B, C] float32`, the sum over N in float32."""

    def by_quarters(x: Array) -> Array:
        wide, quarter = x.astype(jnp.float32), x.shape[1] // 4
        a, b, c, d = (wide[:, i * quarter : (i + 1) * quarter] for i in range(4))
        return ((a + b) + (c + d)).sum(axis=1)

    def plain(x: Array) -> Array:
        return x.astype(jnp.float32).sum(axis=1)

    if x.shape[1] % 4:
        return plain(x)
    return lax.platform_dependent(x, cpu=by_quarters, default=plain)


@jax.custom_vjp
def add_bias(x: Array, bias: Array) -> Array:
    """`x [..., C] + bias [C]`."""
    return x + bias


def _bias_cotangent(dtype: jnp.dtype, ct: Array) -> tuple[Array, Array]:
    # Not from `ct`'s own dtype alone: the sum is taken in float32 and only then rounded.
    return ct, sum_rows(ct.reshape(1, -1, ct.shape[-1]))[0].astype(dtype)


add_bias.defvjp(
    lambda x, bias: (x + bias, jnp.zeros((), bias.dtype)),
    lambda r, ct: _bias_cotangent(r.dtype, ct),
)


def silu(x: Array) -> Array:
    """x sigmoid(x), with the sigmoid as a tanh: no division, and no overflow to guard."""
    return x * (0.5 * jnp.tanh(0.5 * x) + 0.5)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def affine(x: Array, scale: Array, shift: Array, activate: bool) -> Array:
    """u = `x [B, N, C] scale + shift` with `scale`, `shift [B, C] float32`; SiLU(u) if `activate`.

    Arithmetic in float32, the result in x's dtype. Only `x` is kept for the backward pass.
    """
    u = x.astype(jnp.float32) * scale[:, None, :] + shift[:, None, :]
    return (silu(u) if activate else u).astype(x.dtype)


def _affine_forward(x: Array, scale: Array, shift: Array, activate: bool):
    return affine(x, scale, shift, activate), (x, scale, shift)


def _affine_backward(activate: bool, saved: tuple[Array, Array, Array], ct: Array):
    x, scale, shift = saved
    # Behind a barrier, lest the compiler recognise the forward pass's tanh and keep it in memory.
    wide, ct = _barrier(x).astype(jnp.float32), ct.astype(jnp.float32)
    if activate:
        u = wide * scale[:, None, :] + shift[:, None, :]
        s = 0.5 * jnp.tanh(0.5 * u) + 0.5
        ct = _barrier(ct * s * (1.0 + u * (1.0 - s)))
    return (ct * scale[:, None, :]).astype(x.dtype), sum_rows(ct * wide), sum_rows(ct)


affine.defvjp(_affine_forward, _affine_backward)


@jax.custom_vjp
def moments(x: Array) -> tuple[Array, Array]:
    """Mean and mean square over N of `x [B, N, C]`, each `[B, C] float32`."""
    wide = x.astype(jnp.float32)
    return sum_rows(wide) / x.shape[1], sum_rows(jnp.square(wide)) / x.shape[1]


def _moments_backward(x: Array, cts: tuple[Array, Array]) -> tuple[Array]:
    first, second = (ct[:, None, :] / x.shape[1] for ct in cts)
    return ((first + 2.0 * x.astype(jnp.float32) * second).astype(x.dtype),)


moments.defvjp(lambda x: (moments(x), x), _moments_backward)
