"""The same mathematics made fast on a CPU, chosen when a program is lowered.

Measured against profiles of a small U-Net's train step. XLA's CPU backend (1) copies cheap
arithmetic into every consumer, so that a chain of residual blocks is evaluated over and over in
the backward pass, and inside transpositions at that: `fence` stops it; (2) sums over a leading
axis one row at a time, without vector instructions: `sum_rows` first adds four quarters, which
vectorises and leaves a quarter of the rows (1.6 to 3 times as fast).
On other platforms both are the plain thing.

The backward pass is the transpose of the tangent map, and JAX derives it: so tangent maps here are
written for what their transposes do, and forward mode, batching and higher derivatives follow. A
`spread` becomes a sum by quarters, a barrier a barrier.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax


def fence(x: Array) -> Array:
    """`x`, computed once and stored, as is its tangent or cotangent."""
    return lax.platform_dependent(x, cpu=lax.optimization_barrier, default=lambda y: y)


@jax.custom_jvp
def fence_cotangent(x: Array) -> Array:
    """`x`, whose tangent or cotangent is computed once and stored."""
    return x


fence_cotangent.defjvp(lambda primals, tangents: (primals[0], fence(tangents[0])))


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


def spread(x: Array, n: int) -> Array:
    """`[B, C] float32 -> [B, n, C]`, the same in every row; its transpose is `sum_rows`."""

    def rows(x: Array, n: int) -> Array:
        return jnp.broadcast_to(x[:, None, :], (x.shape[0], n, x.shape[1]))

    def by_quarters(x: Array) -> Array:
        # Two names for one value, which cost nothing: the cotangents of a name are added first, so
        # that the transpose adds (a + b) + (c + d), and sums the rows last.
        quarter = rows(x, n // 4)
        first, second = jnp.copy(quarter), jnp.copy(quarter)
        return jnp.concatenate([first, first, second, second], axis=1)

    if n % 4:
        return rows(x, n)
    return lax.platform_dependent(x, cpu=by_quarters, default=lambda x: rows(x, n))


@jax.custom_jvp
def add_bias(x: Array, bias: Array) -> Array:
    """`x [..., C] + bias [C]`."""
    return x + bias


@add_bias.defjvp
def _add_bias_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]):
    x, bias = primals
    dx, dbias = tangents
    # Through float32: the transpose then sums in it, and only its result is rounded.
    rows = spread(dbias.astype(jnp.float32)[None], x.size // x.shape[-1])
    return add_bias(x, bias), dx + rows.reshape(x.shape).astype(x.dtype)


def silu(x: Array) -> Array:
    """x sigmoid(x), with the sigmoid as a tanh: no division, and no overflow to guard."""
    return x * (0.5 * jnp.tanh(0.5 * x) + 0.5)


# What a tangent map needs of its function's arguments is computed anew in the backward pass, which
# so keeps the arguments alone.
_from_arguments: Any = functools.partial(jax.checkpoint, prevent_cse=False)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def affine(x: Array, scale: Array, shift: Array, activate: bool) -> Array:
    """u = `x [B, N, C] scale + shift` with `scale`, `shift [B, C] float32`; SiLU(u) if `activate`.

    Arithmetic in float32, the result in x's dtype. Only `x` is kept for the backward pass.
    """
    u = x.astype(jnp.float32) * scale[:, None, :] + shift[:, None, :]
    return (silu(u) if activate else u).astype(x.dtype)


@affine.defjvp
def _affine_jvp(activate: bool, primals: tuple[Array, ...], tangents: tuple[Array, ...]):
    @_from_arguments
    def tangent(x: Array, scale: Array, shift: Array, dx: Array, dscale: Array, dshift: Array):
        n = x.shape[1]
        # Behind a barrier, lest the compiler recognise the forward pass's tanh and keep it in
        # memory.
        wide = fence(x).astype(jnp.float32)
        du = dx.astype(jnp.float32) * scale[:, None, :]
        du = du + wide * spread(dscale, n) + spread(dshift, n)
        if activate:
            u = wide * scale[:, None, :] + shift[:, None, :]
            s = 0.5 * jnp.tanh(0.5 * u) + 0.5
            du = fence(du) * (1.0 + u * (1.0 - s)) * s
        return du.astype(x.dtype)

    return affine(*primals, activate), tangent(*primals, *tangents)


@jax.custom_jvp
def moments(x: Array) -> tuple[Array, Array]:
    """Mean and mean square over N of `x [B, N, C]`, each `[B, C] float32`."""
    wide = x.astype(jnp.float32)
    return sum_rows(wide) / x.shape[1], sum_rows(jnp.square(wide)) / x.shape[1]


@moments.defjvp
def _moments_jvp(primals: tuple[Array], tangents: tuple[Array]):
    @_from_arguments
    def tangent(x: Array, dx: Array) -> tuple[Array, Array]:
        wide, dwide = x.astype(jnp.float32), dx.astype(jnp.float32)
        return dwide.sum(axis=1) / x.shape[1], 2.0 * (wide * dwide).sum(axis=1) / x.shape[1]

    return moments(*primals), tangent(*primals, *tangents)
