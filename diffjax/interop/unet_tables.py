"""Where each tensor of a released U-Net is in ours: in diffusers' layout and in the original one.

Of diffusers' `UNet2DModel` and `UNet2DConditionModel`; of CompVis's and Stability's Stable
Diffusion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from diffjax.interop.block_tables import (
    DIFFUSERS,
    ORIGINAL_UNET,
    Names,
    block_rows,
    resample_rows,
)
from diffjax.interop.tables import Row, layer, norm

Projection = Literal["dense", "pointwise"]


def rename_table(
    channel_mult: tuple[int, ...],
    blocks: int,
    ours: Mapping[str, Any],
    proj: Projection = "pointwise",
) -> list[Row]:
    """diffusers' table for a network of these levels.

    Which blocks attend and which have a projected skip is read off our own paths.

    Args:
      channel_mult, blocks: of the `UNet`.
      ours: our flat parameters, path -> array.
      proj: kind of the transformers' outer projections: "dense" under use_linear_projection.
    """
    rows = [
        *layer("embed/layer1", "time_embedding.linear_1", "dense"),
        *layer("embed/layer2", "time_embedding.linear_2", "dense"),
        *stack_rows("", "", len(channel_mult), blocks, ours, proj),
    ]
    if "label/table" in ours:
        rows.append(Row("label/table", ("class_embedding.weight",), "table"))
    return rows


def stack_rows(
    a: str, b: str, levels: int, blocks: int, present: Mapping[str, Any], proj: Projection
) -> Iterator[Row]:
    """The levels, middle and ends of a U-Net, or of what of it is `present` (an encoder or a
    decoder), our paths beginning with `a`, diffusers' with `b`."""
    kinds = (DIFFUSERS, present)
    yield from layer(f"{a}conv_in", f"{b}conv_in", "conv")
    for level in range(levels):
        down = f"{b}down_blocks.{level}"
        for i in range(blocks):
            parts = (f"{down}.resnets.{i}", f"{down}.attentions.{i}")
            yield from block_rows(f"{a}down_{level}_{i}", *parts, *kinds, proj)
        if level:
            their = f"{b}down_blocks.{level - 1}.downsamplers.0"
            yield from resample_rows(f"{a}down_{level}", their, f"{their}.conv", *kinds)
        up = f"{b}up_blocks.{levels - 1 - level}"
        for i in range(blocks + 1):
            parts = (f"{up}.resnets.{i}", f"{up}.attentions.{i}")
            yield from block_rows(f"{a}up_{level}_{i}", *parts, *kinds, proj)
        if level < levels - 1:
            their = f"{b}up_blocks.{levels - 2 - level}.upsamplers.0"
            yield from resample_rows(f"{a}up_{level}", their, f"{their}.conv", *kinds)
    for i in (0, 1):
        parts = (f"{b}mid_block.resnets.{i}", f"{b}mid_block.attentions.{i}")
        yield from block_rows(f"{a}mid_{i}", *parts, *kinds, proj)
    yield from norm(f"{a}norm_out", f"{b}conv_norm_out")
    yield from layer(f"{a}conv_out", f"{b}conv_out", "conv")


def original_table(
    channel_mult: tuple[int, ...], blocks: int, ours: Mapping[str, Any], proj: Projection
) -> list[Row]:
    """The table of the original layout, under `model.diffusion_model.`; arguments as above.

    There every block and every change of resolution has a number, counted along the way.
    """
    kinds: tuple[Names, Mapping[str, Any]] = (ORIGINAL_UNET, ours)
    rows = [
        *layer("embed/layer1", "time_embed.0", "dense"),
        *layer("embed/layer2", "time_embed.2", "dense"),
        *layer("conv_in", "input_blocks.0.0", "conv"),
        *block_rows("mid_0", "middle_block.0", "middle_block.1", *kinds, proj),
        *block_rows("mid_1", "middle_block.2", "", *kinds, proj),
        *norm("norm_out", "out.0"),
        *layer("conv_out", "out.2", "conv"),
    ]
    n = 1
    for level in range(len(channel_mult)):
        if level:
            rows += layer(f"down_{level}", f"input_blocks.{n}.0.op", "conv")
            n += 1
        for i in range(blocks):
            parts = (f"input_blocks.{n}.0", f"input_blocks.{n}.1")
            rows += block_rows(f"down_{level}_{i}", *parts, *kinds, proj)
            n += 1
    n = 0
    for level in reversed(range(len(channel_mult))):
        for i in range(blocks + 1):
            parts = (f"output_blocks.{n}.0", f"output_blocks.{n}.1")
            rows += block_rows(f"up_{level}_{i}", *parts, *kinds, proj)
            n += 1
        if level:
            # It shares the last block's number, and comes after its attention.
            attends = f"up_{level}_{blocks}/transformer/proj_in/kernel" in ours
            place = f"output_blocks.{n - 1}.{2 if attends else 1}.conv"
            rows += layer(f"up_{level - 1}", place, "conv")
    return rows
