"""Tables of the tensors of EDM's SongUNet and DhariwalUNet, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffjax.interop.block_tables import EDM_UNET, block_rows, resample_rows
from diffjax.interop.tables import Row, layer, norm


def edm_table(section: Mapping[str, Any], size: int, ours: Mapping[str, Any]) -> list[Row]:
    """The table of a network for images of `size` pixels whose flat parameters are `ours`.

    There blocks are called by the height of their maps; filters and frequencies, which are no
    parameters, are left out.
    """
    levels, blocks = len(section["channel_mult"]), section["blocks"]
    kinds = (EDM_UNET, ours)
    rows = [
        *layer("embed/layer1", "map_layer0", "dense"),
        *layer("embed/layer2", "map_layer1", "dense"),
        *layer("conv_in", f"enc.{size}x{size}_conv", "conv"),
        *_labels(ours),
    ]
    for level in range(levels):
        side = size >> level
        e, d = f"enc.{side}x{side}", f"dec.{side}x{side}"
        rows += resample_rows(f"down_{level}", f"{e}_down", "", *kinds)
        if f"down_{level}_input/kernel" in ours:
            rows += layer(f"down_{level}_input", f"{e}_aux_residual", "conv")
        rows += resample_rows(f"up_{level}", f"{d}_up", "", *kinds)
        for a, b, count in (("down", e, blocks), ("up", d, blocks + 1)):
            for i in range(count):
                place = f"{b}_block{i}"
                rows += block_rows(f"{a}_{level}_{i}", place, place, *kinds, "pointwise")
    side = size >> (levels - 1)
    for i in (0, 1):
        place = f"dec.{side}x{side}_in{i}"
        rows += block_rows(f"mid_{i}", place, place, *kinds, "pointwise")
    song = section["label_to"] == "noise"
    aux = f"dec.{size}x{size}_aux"
    rows += norm("norm_out", f"{aux}_norm" if song else "out_norm")
    rows += layer("conv_out", f"{aux}_conv" if song else "out_conv", "conv")
    return rows


def _labels(ours: Mapping[str, Any]) -> list[Row]:
    """Rows of the class and the augmentation, which add to the noise embedding."""
    rows = []
    if "augment/kernel" in ours:
        rows.append(Row("augment/kernel", ("map_augment.weight",), "dense"))
    if "label/kernel" in ours:
        rows += layer("label", "map_label", "dense")
    if "label/table" in ours:
        rows.append(Row("label/table", ("map_label.weight",), "dense"))
    return rows
