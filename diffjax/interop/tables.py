"""Rename tables: every tensor of a released file paired with a parameter of ours, once.

A table of (our path, their key, kind) is read in both directions. A tensor that the table does not
name, or names without its being there, is an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Row(NamedTuple):
    """One parameter: our path, their key (or keys, concatenated into ours), and its layout."""

    ours: str
    theirs: tuple[str, ...]
    kind: str


def _patch_to_theirs(w: np.ndarray) -> np.ndarray:
    side = math.isqrt(len(w) // 3)
    return w.reshape(side, side, 3, -1).transpose(3, 2, 0, 1)


# kind -> (theirs to ours, ours to theirs). torch holds kernels as (out, in, ...); "patch" is a
# convolution over RGB patches that do not overlap and "pointwise" one of 1x1, dense layers here;
# "channels" is one of 1x1 to a single channel.
LAYOUTS = {
    "vector": (lambda w: w, lambda w: w),
    "table": (lambda w: w, lambda w: w),
    "dense": (lambda w: w.T, lambda w: w.T),
    "conv": (lambda w: w.transpose(2, 3, 1, 0), lambda w: w.transpose(3, 2, 0, 1)),
    "pointwise": (lambda w: w.squeeze((2, 3)).T, lambda w: w.T[:, :, None, None]),
    "channels": (lambda w: w.reshape(w.shape[1:2]), lambda w: w[None, :, None, None]),
    "patch": (lambda w: w.transpose(2, 3, 1, 0).reshape(-1, len(w)), _patch_to_theirs),
}


def layer(ours: str, theirs: str, kind: str) -> Iterator[Row]:
    """The kernel and the bias of a layer."""
    yield Row(f"{ours}/kernel", (f"{theirs}.weight",), kind)
    yield Row(f"{ours}/bias", (f"{theirs}.bias",), "vector")


def norm(ours: str, theirs: str) -> Iterator[Row]:
    """The scale and the bias of a norm."""
    yield Row(f"{ours}/scale", (f"{theirs}.weight",), "vector")
    yield Row(f"{ours}/bias", (f"{theirs}.bias",), "vector")


def to_ours(
    theirs: Mapping[str, np.ndarray], ours: Mapping[str, Any], table: Sequence[Row], whose: str
) -> dict[str, np.ndarray]:
    """Our flat parameters, in our dtypes, filled with their tensors.

    Args:
      theirs: their state dict.
      ours: path -> what has the shape and dtype expected there.
      table: names every key of both.
      whose: what the errors call them: a file, or a library.

    Raises:
      ValueError: keys missing or unexpected, or shapes that differ; one line says which.
    """
    _account(theirs, {key for row in table for key in row.theirs}, whose)
    _account(ours, {row.ours for row in table}, "our")
    filled, wrong = {}, []
    for row in table:
        shape, parts = tuple(ours[row.ours].shape), [np.asarray(theirs[k]) for k in row.theirs]
        try:
            to_ours = LAYOUTS[row.kind][0]
            # Joining one part would make an array of a scalar.
            value = [to_ours(p) for p in parts]
            value = np.concatenate(value, axis=-1) if len(value) > 1 else value[0]
        except ValueError:  # parts of different shapes, or of fewer axes than the kind has
            value = None
        if value is None or value.shape != shape:
            there = " and ".join(str(p.shape) for p in parts)
            wrong.append(f"{row.theirs[0]} is {there}, which does not make {row.ours} {shape}")
        else:
            filled[row.ours] = np.asarray(value, ours[row.ours].dtype, order="C")
    if wrong:
        raise ValueError(
            f"{whose} shapes differ from the configuration's: {'; '.join(wrong[:3])} "
            f"({len(wrong)} in all)"
        )
    return filled


def to_theirs(ours: Mapping[str, np.ndarray], table: Sequence[Row]) -> dict[str, np.ndarray]:
    """Their state dict from our flat parameters.

    Raises:
      ValueError: a parameter that the table lacks, or one that is missing.
    """
    _account(ours, {row.ours for row in table}, "our")
    state = {}
    for row in table:
        back, value = LAYOUTS[row.kind][1], np.asarray(ours[row.ours])
        count = len(row.theirs)
        parts = np.split(value, count, axis=-1) if count > 1 else [value]
        for key, part in zip(row.theirs, parts, strict=True):
            state[key] = np.asarray(back(part), order="C")
    return state


def _account(have: Mapping[str, Any], named: set[str], whose: str) -> None:
    unknown, absent = sorted(set(have) - named), sorted(named - set(have))
    if unknown or absent:
        raise ValueError(
            f"{whose} parameters do not match the table: unexpected {unknown[:3]}, missing "
            f"{absent[:3]} ({len(unknown)} and {len(absent)} in all)"
        )
