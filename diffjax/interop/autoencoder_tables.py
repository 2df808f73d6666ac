"""Tables of a released autoencoder's tensors and ours: diffusers' layout, and the original one.

Of diffusers' `AutoencoderKL` and `VQModel`; of CompVis's `AutoencoderKL` and `VQModel`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diffjax.interop.block_tables import ORIGINAL_VAE, block_rows, resample_rows
from diffjax.interop.tables import Row, layer, norm
from diffjax.interop.unet_tables import stack_rows


def autoencoder_table(levels: int, blocks: int, ours: Mapping[str, Any]) -> list[Row]:
    """diffusers' table of an `Autoencoder` whose flat parameters are `ours`."""
    rows = _shared(ours)
    for half in ("encoder", "decoder"):
        rows += stack_rows(f"{half}/", f"{half}.", levels, blocks, ours, "dense")
    return rows


def original_table(levels: int, blocks: int, ours: Mapping[str, Any]) -> list[Row]:
    """The table of the original layout; in Stable Diffusion under `first_stage_model.`."""
    rows = _shared(ours)
    for half in ("encoder", "decoder"):
        rows += _original_stack(half, levels, blocks, ours)
    return rows


def _shared(ours: Mapping[str, Any]) -> list[Row]:
    rows = [*layer("quant", "quant_conv", "conv"), *layer("post_quant", "post_quant_conv", "conv")]
    if "quantiser/codes" in ours:
        rows.append(Row("quantiser/codes", ("quantize.embedding.weight",), "table"))
    return rows


def _original_stack(
    half: str, levels: int, blocks: int, present: Mapping[str, Any]
) -> Iterator[Row]:
    a, b, kinds = f"{half}/", f"{half}.", (ORIGINAL_VAE, present)
    yield from layer(f"{a}conv_in", f"{b}conv_in", "conv")
    for level in range(levels):
        # Unlike diffusers', both ways are numbered by resolution.
        for way, count in (("down", blocks), ("up", blocks + 1)):
            for i in range(count):
                parts = (f"{b}{way}.{level}.block.{i}", f"{b}{way}.{level}.attn.{i}")
                yield from block_rows(f"{a}{way}_{level}_{i}", *parts, *kinds, "pointwise")
        down, up = f"{b}down.{level - 1}.downsample", f"{b}up.{level + 1}.upsample"
        yield from resample_rows(f"{a}down_{level}", down, f"{down}.conv", *kinds)
        yield from resample_rows(f"{a}up_{level}", up, f"{up}.conv", *kinds)
    for i in (0, 1):
        parts = (f"{b}mid.block_{i + 1}", f"{b}mid.attn_{i + 1}")
        yield from block_rows(f"{a}mid_{i}", *parts, *kinds, "pointwise")
    yield from norm(f"{a}norm_out", f"{b}norm_out")
    yield from layer(f"{a}conv_out", f"{b}conv_out", "conv")
