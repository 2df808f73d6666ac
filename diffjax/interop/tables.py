"""Rename tables: every tensor of a released file paired with a parameter of ours, once.

A table of (our path, their key, kind) is read in both directions. A tensor that the table does not
name, or names without its being there, is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Row(NamedTuple):
    """One parameter: our path, their key (or keys, concatenated into ours), and its layout.

    Attributes:
      ours, theirs: the path, and the keys.
      kind: a key of `LAYOUTS`.
      number: what the kind asks for: channels of "patch", groups of "fused".
      copies: their keys hold the same tensor each, ours once.
    """

    ours: str
    theirs: tuple[str, ...]
    kind: str
    number: int = 0
    copies: bool = False


def _patch_to_theirs(w: np.ndarray, channels: int) -> np.ndarray:
    side = math.isqrt(len(w) // channels)
    return w.reshape(side, side, channels, -1).transpose(3, 2, 0, 1)


def _gather(w: np.ndarray, groups: int, parts: int = 3) -> np.ndarray:
    """Rows in `groups` of (query, key, value) to all queries, all keys, all values; of two `parts`
    keys and values alone."""
    return w.reshape(groups, parts, -1, *w.shape[1:]).swapaxes(0, 1).reshape(w.shape)


def _scatter(w: np.ndarray, groups: int, parts: int = 3) -> np.ndarray:
    """The inverse of `_gather`."""
    return w.reshape(parts, groups, -1, *w.shape[1:]).swapaxes(0, 1).reshape(w.shape)


# kind -> (theirs to ours, ours to theirs), functions of the tensor and the row's number. torch
# holds kernels as (out, in, ...). Dense layers here: "patch", a convolution over patches that do
# not overlap; "pointwise", one of 1x1 ("line": of 1); "fused", such a one to queries, keys and
# values in groups: of one head each, or one channel each ("paired": to keys and values);
# "channels", one of 1x1 to one channel.
LAYOUTS: dict[str, tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]]] = {
    "vector": (lambda w, _: w, lambda w, _: w),
    "table": (lambda w, _: w, lambda w, _: w),
    "batch_of_one": (lambda w, _: w.squeeze(0), lambda w, _: w[None]),
    "sequence_of_one": (lambda w, _: w.squeeze((0, 1)), lambda w, _: w[None, None]),
    "dense": (lambda w, _: w.T, lambda w, _: w.T),
    "conv": (lambda w, _: w.transpose(2, 3, 1, 0), lambda w, _: w.transpose(3, 2, 0, 1)),
    "pointwise": (lambda w, _: w.squeeze((2, 3)).T, lambda w, _: w.T[:, :, None, None]),
    "channels": (lambda w, _: w.reshape(w.shape[1:2]), lambda w, _: w[None, :, None, None]),
    "line": (lambda w, _: w.squeeze(2).T, lambda w, _: w.T[:, :, None]),
    "patch": (lambda w, _: w.transpose(2, 3, 1, 0).reshape(-1, len(w)), _patch_to_theirs),
    "fused_pointwise": (
        lambda w, n: _gather(w.squeeze((2, 3)), n).T,
        lambda w, n: _scatter(w.T, n)[:, :, None, None],
    ),
    "fused_line": (
        lambda w, n: _gather(w.squeeze(2), n).T,
        lambda w, n: _scatter(w.T, n)[:, :, None],
    ),
    "fused_dense": (lambda w, n: _gather(w, n).T, lambda w, n: _scatter(w.T, n)),
    "fused_vector": (_gather, _scatter),
    "paired_line": (
        lambda w, n: _gather(w.squeeze(2), n, 2).T,
        lambda w, n: _scatter(w.T, n, 2)[:, :, None],
    ),
    "paired_vector": (lambda w, n: _gather(w, n, 2), lambda w, n: _scatter(w, n, 2)),
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
      ValueError: keys missing or unexpected, shapes that differ, copies that do, or values that are
        not finite; one line says which.
    """
    _account(theirs, {key for row in table for key in row.theirs}, whose)
    _account(ours, {row.ours for row in table}, "our")
    filled, wrong = {}, []
    for row in table:
        shape, dtype = tuple(ours[row.ours].shape), ours[row.ours].dtype
        # Half and quarter precisions do not mix with others, and some cannot be computed with.
        with np.errstate(all="ignore"):  # what overflows is found below
            parts = [np.asarray(theirs[k], dtype) for k in row.theirs]
        for key, part in zip(row.theirs, parts, strict=True):
            check_finite(key, part, whose)
        if row.copies:
            parts = [_the_same(row, parts)]
        try:
            to_ours = LAYOUTS[row.kind][0]
            # Joining one part would make an array of a scalar.
            value = [to_ours(p, row.number) for p in parts]
            value = np.concatenate(value, axis=-1) if len(value) > 1 else value[0]
        except ValueError:  # parts of different shapes, or of fewer axes than the kind has
            value = None
        if value is None or value.shape != shape:
            there = " and ".join(str(p.shape) for p in parts)
            wrong.append(f"{row.theirs[0]} is {there}, which does not make {row.ours} {shape}")
        else:
            filled[row.ours] = np.asarray(value, dtype, order="C")
    if wrong:
        raise ValueError(
            f"{whose} shapes differ from the configuration's: {'; '.join(wrong[:3])} "
            f"({len(wrong)} in all)"
        )
    return filled


def check_finite(key: str, value: np.ndarray, whose: str) -> None:
    """Refuses a tensor with values that are no numbers.

    Raises:
      ValueError: there are some; names the tensor.
    """
    bad = value.size - int(np.isfinite(value).sum())
    if bad:
        raise ValueError(
            f"{bad} of {value.size} values of {whose} {key} are not finite (NaN or infinity): "
            "the weights are broken, fetch or train them again"
        )


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
        parts = np.split(value, count, axis=-1) if count > 1 and not row.copies else [value] * count
        for key, part in zip(row.theirs, parts, strict=True):
            state[key] = np.asarray(back(part, row.number), order="C")
    return state


def _the_same(row: Row, parts: Sequence[np.ndarray]) -> np.ndarray:
    for key, part in zip(row.theirs, parts, strict=True):
        if not np.array_equal(part, parts[0]):
            raise ValueError(f"{key} differs from {row.theirs[0]}: they must be copies")
    return parts[0]


def _account(have: Mapping[str, Any], named: set[str], whose: str) -> None:
    unknown, absent = sorted(set(have) - named), sorted(named - set(have))
    if unknown or absent:
        raise ValueError(
            f"{whose} parameters do not match the table: unexpected {unknown[:3]}, missing "
            f"{absent[:3]} ({len(unknown)} and {len(absent)} in all)"
        )
