"""Conditioning: what a denoising network is given beside the noisy image and its noise level."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array


class Conditioning(NamedTuple):
    """The inputs by which denoising networks are conditioned; a network reads those that it has
    parameters for and refuses the others.

    Attributes:
      label: `[B] int32`, rows of the network's own class table.
      vector: `[B, E]`, projected and added to the noise embedding.
      context: `[B, S, D]`, attended to by cross-attention.
      context_mask: `[B, S] bool`, False where the context is padding; None sees it all.
      concat: `[B, h, w, C]`, further channels of the network's input.
      residuals: added to the skip connections of a U-Net in their order, the last to its middle
        (Zhang et al. 2023, ControlNet).
    """

    label: Array | None = None
    vector: Array | None = None
    context: Array | None = None
    context_mask: Array | None = None
    concat: Array | None = None
    residuals: tuple[Array, ...] = ()


NO_CONDITIONING = Conditioning()


def combine(parts: Sequence[Conditioning]) -> Conditioning:
    """One conditioning of several: vectors, contexts and channels are concatenated in their order,
    residuals summed.

    Raises:
      ValueError: two labels, for there is one class table; contexts of several widths, or residuals
        of several lengths.
    """
    labels = [p.label for p in parts if p.label is not None]
    if len(labels) > 1:
        raise ValueError(
            "two conditions give a label, but a network has one class table: set to='vector' in "
            "all of them but one"
        )
    contexts = [p for p in parts if p.context is not None]
    widths = [p.context.shape[-1] for p in contexts if p.context is not None]
    if len(set(widths)) > 1:
        raise ValueError(
            f"contexts of widths {', '.join(map(str, widths))} cannot be attended to as one: set "
            "the same `project` in these conditions"
        )
    residuals = [p.residuals for p in parts if p.residuals]
    if len({len(r) for r in residuals}) > 1:
        raise ValueError("residuals of several lengths are those of several networks")
    return Conditioning(
        label=labels[0] if labels else None,
        vector=_joined([p.vector for p in parts], -1),
        context=_joined([p.context for p in contexts], 1),
        context_mask=_joined_masks(contexts),
        concat=_joined([p.concat for p in parts], -1),
        residuals=tuple(reduce(jnp.add, level) for level in zip(*residuals, strict=True)),
    )


def with_concat(x: Array, cond: Conditioning) -> Array:
    """`x [B, h, w, C]` with the conditioning's further channels behind its own."""
    return x if cond.concat is None else jnp.concatenate([x, cond.concat], axis=-1)


def check_unread(network: str, cond: Conditioning, reads: Sequence[str]) -> None:
    """Refuses a conditioning that a network would not read.

    Raises:
      ValueError: names the first field.
    """
    for name, value in cond._asdict().items():
        present = len(value) > 0 if name == "residuals" else value is not None
        if present and name not in reads:
            raise ValueError(
                f"{network} is conditioned by {', '.join(reads) or 'nothing'}, not by a {name}"
            )


def check_vector(width: int, cond: Conditioning) -> None:
    """Refuses a vector of another width than the network's `vector_dim`, or none where it has one.

    Raises:
      ValueError: says both widths.
    """
    found = 0 if cond.vector is None else cond.vector.shape[-1]
    if width != found:
        raise ValueError(
            f"model.vector_dim={width}, but the conditions give a vector of {found}: set it to "
            "the width of what conditions with to='vector' give, together"
        )


def _joined(arrays: Sequence[Array | None], axis: int) -> Array | None:
    there = [a for a in arrays if a is not None]
    if len(there) < 2:
        return there[0] if there else None
    return jnp.concatenate(there, axis=axis)


def _joined_masks(parts: Sequence[Conditioning]) -> Array | None:
    if all(p.context_mask is None for p in parts):
        return None
    full = [
        jnp.ones(p.context.shape[:2], bool) if p.context_mask is None else p.context_mask
        for p in parts
        if p.context is not None
    ]
    return _joined(full, 1)
