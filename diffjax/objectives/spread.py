"""Contrastive losses of a global batch whose rows lie on the devices of a mesh.

global    the compiler's own way: rows x all columns of the logits on every device
gathered  the texts of all devices on each: rows x all columns of the logits, once
ring      the texts travel from device to device, each with what it has gathered so far: one block
          of logits at a time, forwards and backwards (as ring attention, Liu et al. 2023)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import PartitionSpec as P

from diffjax.choices import unknown
from diffjax.objectives.contrastive import (
    KINDS,
    NONE,
    Kind,
    Statistics,
    cosines,
    found,
    split,
    statistics,
    unit,
)

Axes = tuple[str, ...]


@dataclass(frozen=True)
class Contrastive:
    """Attributes:
    kind: "softmax" or "sigmoid".
    spread: "global", "gathered" or "ring"; without a mesh, or on one device, all are the first.
    axes: of the mesh, over which the rows of a batch lie.
    """

    kind: str = "softmax"
    spread: str = "global"
    axes: Axes = ("data", "fsdp")

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("contrastive kind", self.kind, KINDS)
        if self.spread not in SPREADS:
            raise unknown("contrastive spread", self.spread, SPREADS)

    def __call__(
        self, image: Array, text: Array, log_scale: Array, bias: Array | float = 0.0
    ) -> tuple[Array, dict[str, Array]]:
        """Loss `[B] float32` and accuracies (`contrastive.found`) of `image, text [B, E]`.

        Raises:
          ValueError: shapes that do not fit, a batch that does not split over the devices.
        """
        if image.ndim != 2 or image.shape != text.shape:
            raise ValueError(
                f"contrastive: image {image.shape} and text {text.shape} must be [B, E] alike"
            )
        kind, form = KINDS[self.kind], self._form(len(image))
        scale = jnp.exp(jnp.asarray(log_scale, jnp.float32))
        stats = form(kind, unit(image), unit(text), scale, jnp.asarray(bias, jnp.float32))
        return kind.loss(stats.own, stats.row, stats.column), found(stats)

    def _form(self, batch: int) -> Callable[..., Statistics]:
        mesh = jax.sharding.get_abstract_mesh()
        if mesh.empty or not set(self.axes) <= set(mesh.axis_names):
            return statistics
        ways = math.prod(mesh.shape[axis] for axis in self.axes)
        if ways == 1 or self.spread == "global":
            return statistics
        if batch % ways:
            raise ValueError(f"contrastive: a batch of {batch} does not split over {ways} devices")
        return partial(SPREADS[self.spread], mesh=mesh, axes=self.axes, ways=ways)


def gathered(
    kind: Kind, image: Array, text: Array, scale: Array, bias: Array,
    *, mesh: Any, axes: Axes, ways: int,
) -> Statistics:  # fmt: skip
    """`statistics`, every device computing its rows of the logits."""

    def local(image: Array, text: Array, scale: Array, bias: Array) -> Statistics:
        b, here = len(image), lax.axis_index(axes)
        logits = scale * cosines(image, lax.all_gather(text, axes, tiled=True)) + bias
        same = here * b + jnp.arange(b)[:, None] == jnp.arange(ways * b)
        own, rivals = split(logits, same)
        best = lax.stop_gradient(rivals)

        def home(parts: Array) -> Array:
            """Every device's part of these columns: `[ways * b]` of each to `[ways, b]`."""
            return lax.all_to_all(parts.reshape(ways, b), axes, 0, 0)

        column = kind.join(home(kind.reduce(rivals, 0)), 0)
        return Statistics(
            own, kind.reduce(rivals, 1), column, best.max(1), home(best.max(0)).max(0)
        )

    rows = P(axes)
    return jax.shard_map(local, mesh=mesh, in_specs=(rows, rows, P(), P()), out_specs=rows)(
        image, text, scale, bias
    )


@partial(jax.custom_vjp, nondiff_argnums=(0, 5, 6, 7))
def _ring(
    kind: Kind, image: Array, text: Array, scale: Array, bias: Array,
    mesh: Any, axes: Axes, ways: int,
) -> Statistics:  # fmt: skip
    return _ring_forward(kind, image, text, scale, bias, mesh, axes, ways)[0]


def ring(
    kind: Kind, image: Array, text: Array, scale: Array, bias: Array,
    *, mesh: Any, axes: Axes, ways: int,
) -> Statistics:  # fmt: skip
    """`statistics`, no device holding more than a block `[B / ways, B / ways]` of the logits."""
    return _ring(kind, image, text, scale, bias, mesh, axes, ways)


def _ring_forward(
    kind: Kind, image: Array, text: Array, scale: Array, bias: Array,
    mesh: Any, axes: Axes, ways: int,
) -> tuple[Statistics, Any]:  # fmt: skip
    def local(image: Array, text: Array, scale: Array, bias: Array) -> Statistics:
        b = len(image)

        def join(a: Array, b: Array) -> Array:
            return kind.join(jnp.stack([a, b]), 0)

        def visit(step: Array, carry: Any) -> Any:
            (own, row, row_best), (text, column, column_best) = carry
            logits = scale * cosines(image, text) + bias
            ours, rivals = split(logits, jnp.eye(b, dtype=bool) & (step == 0))
            stay = own + ours, join(row, kind.reduce(rivals, 1)), _max(row_best, rivals, 1)
            go = text, join(column, kind.reduce(rivals, 0)), _max(column_best, rivals, 0)
            return stay, _pass_on(go, axes, ways)

        zero, none = jnp.zeros(b), jnp.full(b, NONE)
        nothing = kind.reduce(jnp.full((b, 1), NONE), 1)
        carry = (zero, nothing, none), (text, nothing, none)
        (own, row, row_best), (_, column, column_best) = lax.fori_loop(0, ways, visit, carry)
        return Statistics(own, row, column, row_best, column_best)

    rows = P(axes)
    # Unchecked: the derivative is stated below, so nothing has to be told of replication.
    stats = jax.shard_map(
        local, mesh=mesh, in_specs=(rows, rows, P(), P()), out_specs=rows,
        check_vma=False,
    )(image, text, scale, bias)  # fmt: skip
    return stats, (image, text, scale, bias, stats.row, stats.column)


def _ring_backward(
    kind: Kind, mesh: Any, axes: Axes, ways: int, residuals: Any, slopes: Statistics
) -> tuple[Array, Array, Array, Array]:
    """A second round: logits are computed again, a text's derivative travels with it."""

    def local(
        image: Array, text: Array, scale: Array, bias: Array,
        row: Array, column: Array, d_own: Array, d_row: Array, d_column: Array,
    ) -> tuple[Array, Array, Array, Array]:  # fmt: skip
        def visit(step: Array, carry: Any) -> Any:
            (d_image, d_scale, d_bias), (text, d_text, column, d_column) = carry
            cosine = cosines(image, text)
            same = jnp.eye(len(image), dtype=bool) & (step == 0)
            _, rivals = split(scale * cosine + bias, same)
            by_row = d_row[:, None] * kind.slope(rivals, row[:, None])
            by_column = d_column * kind.slope(rivals, column)
            d_logits = jnp.where(same, d_own[:, None], by_row + by_column)
            d_image = d_image + scale * cosines(d_logits, text.T)
            d_text = d_text + scale * cosines(d_logits.T, image.T)
            stay = d_image, d_scale + (d_logits * cosine).sum(), d_bias + d_logits.sum()
            return stay, _pass_on((text, d_text, column, d_column), axes, ways)

        zeros = jnp.zeros_like
        carry = (zeros(image), zeros(scale), zeros(bias)), (text, zeros(text), column, d_column)
        (d_image, d_scale, d_bias), (_, d_text, _, _) = lax.fori_loop(0, ways, visit, carry)
        return d_image, d_text, lax.psum(d_scale, axes), lax.psum(d_bias, axes)

    rows, whole = P(axes), P()
    arguments: Any = (*residuals, slopes.own, slopes.row, slopes.column)
    return jax.shard_map(
        local, mesh=mesh, in_specs=(rows, rows, whole, whole, *[rows] * 5),
        out_specs=(rows, rows, whole, whole), check_vma=False,
    )(*arguments)  # fmt: skip


_ring.defvjp(_ring_forward, _ring_backward)


def _pass_on(travelling: Any, axes: Axes, ways: int) -> Any:
    """Every device's arrays to the next device of the ring."""
    around = [(i, (i + 1) % ways) for i in range(ways)]
    return jax.tree.map(lambda x: lax.ppermute(x, axes, around), travelling)


def _max(best: Array, rivals: Array, axis: int) -> Array:
    return jnp.maximum(best, rivals.max(axis))


SPREADS: dict[str, Callable[..., Statistics]] = {
    "global": statistics,
    "gathered": gathered,
    "ring": ring,
}
