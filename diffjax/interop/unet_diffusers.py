"""diffusers' `UNet2DModel` weights to and from `diffjax.models.unet`, strictly.

A table of (our path, their key, kind) lists every tensor once; both directions read it. A tensor
that the table does not name, or names without its being there, is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np


class Row(NamedTuple):
    """One parameter: our path, their key (or keys, concatenated into ours), and its layout."""

    ours: str
    theirs: tuple[str, ...]
    kind: str


# kind -> (theirs to ours, ours to theirs). torch holds kernels as (out, in, ...).
LAYOUTS = {
    "vector": (lambda w: w, lambda w: w),
    "table": (lambda w: w, lambda w: w),
    "dense": (lambda w: w.T, lambda w: w.T),
    "conv": (lambda w: w.transpose(2, 3, 1, 0), lambda w: w.transpose(3, 2, 0, 1)),
}


def rename_table(channel_mult: tuple[int, ...], blocks: int, ours: Mapping[str, Any]) -> list[Row]:
    """The table for a network of these levels; `ours` is our flat parameters, path -> array.

    Which blocks attend and which have a projected skip is read off our own paths.
    """
    rows = [
        *_layer("conv_in", "conv_in", "conv"),
        *_layer("embed/layer1", "time_embedding.linear_1", "dense"),
        *_layer("embed/layer2", "time_embedding.linear_2", "dense"),
        *_norm("norm_out", "conv_norm_out"),
        *_layer("conv_out", "conv_out", "conv"),
    ]
    if "label/table" in ours:
        rows.append(Row("label/table", ("class_embedding.weight",), "table"))
    levels = len(channel_mult)
    for level in range(levels):
        for i in range(blocks):
            rows += _block(f"down_{level}_{i}", f"down_blocks.{level}", i, ours)
        if level:
            rows += _resample(f"down_{level}", f"down_blocks.{level - 1}.downsamplers.0", ours)
        their = levels - 1 - level
        for i in range(blocks + 1):
            rows += _block(f"up_{level}_{i}", f"up_blocks.{their}", i, ours)
        if level < levels - 1:
            rows += _resample(f"up_{level}", f"up_blocks.{their - 1}.upsamplers.0", ours)
    for i in (0, 1):
        rows += _block(f"mid_{i}", "mid_block", i, ours)
    return rows


def from_diffusers(
    theirs: Mapping[str, np.ndarray], ours: Mapping[str, Any], table: list[Row]
) -> dict[str, np.ndarray]:
    """Our flat parameters filled with their tensors; `ours` gives the expected shapes."""
    _account(theirs, {key for row in table for key in row.theirs}, "diffusers")
    _account(ours, {row.ours for row in table}, "our")
    filled = {}
    for row in table:
        to_ours = LAYOUTS[row.kind][0]
        value = np.concatenate([to_ours(np.asarray(theirs[key])) for key in row.theirs], axis=-1)
        if value.shape != tuple(ours[row.ours].shape):
            raise ValueError(
                f"{row.theirs[0]} gives {value.shape}, but {row.ours} is "
                f"{tuple(ours[row.ours].shape)}; the two configurations differ"
            )
        filled[row.ours] = value
    return filled


def to_diffusers(ours: Mapping[str, np.ndarray], table: list[Row]) -> dict[str, np.ndarray]:
    """Their state dict from our flat parameters."""
    _account(ours, {row.ours for row in table}, "our")
    state = {}
    for row in table:
        to_theirs = LAYOUTS[row.kind][1]
        parts = np.split(np.asarray(ours[row.ours]), len(row.theirs), axis=-1)
        for key, part in zip(row.theirs, parts, strict=True):
            state[key] = np.ascontiguousarray(to_theirs(part))
    return state


def _layer(ours: str, theirs: str, kind: str) -> Iterator[Row]:
    yield Row(f"{ours}/kernel", (f"{theirs}.weight",), kind)
    yield Row(f"{ours}/bias", (f"{theirs}.bias",), "vector")


def _norm(ours: str, theirs: str) -> Iterator[Row]:
    yield Row(f"{ours}/scale", (f"{theirs}.weight",), "vector")
    yield Row(f"{ours}/bias", (f"{theirs}.bias",), "vector")


def _resnet(ours: str, theirs: str, present: Mapping[str, Any]) -> Iterator[Row]:
    yield from _norm(f"{ours}/norm1", f"{theirs}.norm1")
    yield from _layer(f"{ours}/conv1", f"{theirs}.conv1", "conv")
    yield from _layer(f"{ours}/embed", f"{theirs}.time_emb_proj", "dense")
    yield from _norm(f"{ours}/norm2", f"{theirs}.norm2")
    yield from _layer(f"{ours}/conv2", f"{theirs}.conv2", "conv")
    if f"{ours}/skip/kernel" in present:
        yield from _layer(f"{ours}/skip", f"{theirs}.conv_shortcut", "conv")


def _block(ours: str, theirs: str, i: int, present: Mapping[str, Any]) -> Iterator[Row]:
    yield from _resnet(f"{ours}/resnet", f"{theirs}.resnets.{i}", present)
    if f"{ours}/attention/qkv/kernel" not in present:
        return
    a, b = f"{ours}/attention", f"{theirs}.attentions.{i}"
    yield from _norm(f"{a}/norm", f"{b}.group_norm")
    for leaf, kind, key in (("kernel", "dense", "weight"), ("bias", "vector", "bias")):
        yield Row(f"{a}/qkv/{leaf}", tuple(f"{b}.to_{x}.{key}" for x in "qkv"), kind)
    yield from _layer(f"{a}/proj", f"{b}.to_out.0", "dense")


def _resample(ours: str, theirs: str, present: Mapping[str, Any]) -> Iterator[Row]:
    if f"{ours}/resnet/conv1/kernel" in present:
        yield from _resnet(f"{ours}/resnet", theirs, present)
    else:
        yield from _layer(ours, f"{theirs}.conv", "conv")


def _account(have: Mapping[str, Any], named: set[str], whose: str) -> None:
    unknown, absent = sorted(set(have) - named), sorted(named - set(have))
    if unknown or absent:
        raise ValueError(
            f"{whose} parameters do not match the table: unknown {unknown[:3]}, missing "
            f"{absent[:3]} ({len(unknown)} and {len(absent)} in all); check levels and blocks"
        )
