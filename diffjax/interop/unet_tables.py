"""Tables of a released U-Net's tensors and ours: diffusers' layout, and the original one.

Of diffusers' `UNet2DModel` and `UNet2DConditionModel`; of OpenAI's iDDPM and ADM and, after them,
CompVis's and Stability's Stable Diffusion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

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
    channel_mult: tuple[int, ...],
    blocks: int,
    ours: Mapping[str, Any],
    proj: Projection = "pointwise",
    names: Names = ORIGINAL_UNET,
) -> list[Row]:
    """The table of the original layout; arguments as above, and the layout's `names`.

    There every block and every change of resolution has a number, counted along the way. In Stable
    Diffusion all stand under `model.diffusion_model.`.
    """
    kinds = (names, ours)
    rows = [
        *layer("embed/layer1", "time_embed.0", "dense"),
        *layer("embed/layer2", "time_embed.2", "dense"),
        *layer("conv_in", "input_blocks.0.0", "conv"),
        *block_rows("mid_0", "middle_block.0", "middle_block.1", *kinds, proj),
        *block_rows("mid_1", "middle_block.2", "", *kinds, proj),
        *norm("norm_out", "out.0"),
        *layer("conv_out", "out.2", "conv"),
    ]
    if "label/table" in ours:
        rows.append(Row("label/table", ("label_emb.weight",), "table"))
    n = 1
    for level in range(len(channel_mult)):
        if level:
            place = f"input_blocks.{n}.0"
            rows += resample_rows(f"down_{level}", place, f"{place}.op", *kinds)
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
            last = f"up_{level}_{blocks}"
            leaves = (f"{last}/transformer/proj_in/kernel", f"{last}/attention/qkv/kernel")
            place = f"output_blocks.{n - 1}.{2 if any(x in ours for x in leaves) else 1}"
            rows += resample_rows(f"up_{level - 1}", place, f"{place}.conv", *kinds)
    return rows


class Levels(NamedTuple):
    """Settings read off the shapes of a U-Net in the original layout: the width of each level,
    whether it attends, the blocks of all, and whether residual blocks change the resolution."""

    widths: tuple[int, ...]
    attends: tuple[bool, ...]
    blocks: int
    resblock: bool

    @property
    def attention_levels(self) -> tuple[int, ...]:
        """Numbers of those that attend."""
        return tuple(i for i, one in enumerate(self.attends) if one)


def original_levels(weights: Mapping[str, np.ndarray]) -> Levels:
    """The levels of a U-Net in the original layout.

    Raises:
      ValueError: it is none.
    """
    count = 0
    while f"output_blocks.{count}.0.in_layers.0.weight" in weights:
        count += 1
    # The last block of a level holds the change of resolution, after its attention.
    ways = {".conv.weight": False, ".in_layers.0.weight": True}
    ups = [
        (n, resblock)
        for n in range(count)
        for end, resblock in ways.items()
        if any(f"output_blocks.{n}.{k}{end}" in weights for k in (1, 2))
    ]
    levels = len(ups) + 1
    if not count or count % levels or "out.2.weight" not in weights:
        raise ValueError(
            "no U-Net in OpenAI's layout: it has no output_blocks and out.2, or some are missing; "
            f"it holds {', '.join(sorted(weights)[:3])}"
        )
    blocks, widths, attends = count // levels - 1, [], []
    for level in range(levels):
        n = 1 + level * (blocks + 1)
        key = f"input_blocks.{n}.0.out_layers.3.weight"
        if key not in weights:
            raise ValueError(f"no U-Net in OpenAI's layout: {key} is not there")
        widths.append(weights[key].shape[0])
        attends.append(f"input_blocks.{n}.1.norm.weight" in weights)
    return Levels(tuple(widths), tuple(attends), blocks, bool(ups and ups[0][1]))
