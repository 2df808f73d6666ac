"""diffusers' `UNet2DModel` weights to and from `diffjax.models.unet`: the rename table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diffjax.interop.tables import Row, layer, norm


def rename_table(channel_mult: tuple[int, ...], blocks: int, ours: Mapping[str, Any]) -> list[Row]:
    """The table for a network of these levels; `ours` is our flat parameters, path -> array.

    Which blocks attend and which have a projected skip is read off our own paths.
    """
    rows = [
        *layer("conv_in", "conv_in", "conv"),
        *layer("embed/layer1", "time_embedding.linear_1", "dense"),
        *layer("embed/layer2", "time_embedding.linear_2", "dense"),
        *norm("norm_out", "conv_norm_out"),
        *layer("conv_out", "conv_out", "conv"),
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


def _resnet(ours: str, theirs: str, present: Mapping[str, Any]) -> Iterator[Row]:
    yield from norm(f"{ours}/norm1", f"{theirs}.norm1")
    yield from layer(f"{ours}/conv1", f"{theirs}.conv1", "conv")
    yield from layer(f"{ours}/embed", f"{theirs}.time_emb_proj", "dense")
    yield from norm(f"{ours}/norm2", f"{theirs}.norm2")
    yield from layer(f"{ours}/conv2", f"{theirs}.conv2", "conv")
    if f"{ours}/skip/kernel" in present:
        yield from layer(f"{ours}/skip", f"{theirs}.conv_shortcut", "conv")


def _block(ours: str, theirs: str, i: int, present: Mapping[str, Any]) -> Iterator[Row]:
    yield from _resnet(f"{ours}/resnet", f"{theirs}.resnets.{i}", present)
    if f"{ours}/attention/qkv/kernel" not in present:
        return
    a, b = f"{ours}/attention", f"{theirs}.attentions.{i}"
    yield from norm(f"{a}/norm", f"{b}.group_norm")
    for leaf, kind, key in (("kernel", "dense", "weight"), ("bias", "vector", "bias")):
        yield Row(f"{a}/qkv/{leaf}", tuple(f"{b}.to_{x}.{key}" for x in "qkv"), kind)
    yield from layer(f"{a}/proj", f"{b}.to_out.0", "dense")


def _resample(ours: str, theirs: str, present: Mapping[str, Any]) -> Iterator[Row]:
    if f"{ours}/resnet/conv1/kernel" in present:
        yield from _resnet(f"{ours}/resnet", theirs, present)
    else:
        yield from layer(ours, f"{theirs}.conv", "conv")
