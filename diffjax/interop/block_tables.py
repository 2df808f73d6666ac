"""Rows of the blocks that U-Nets and autoencoders share, in each layout's own names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from diffjax.interop.tables import Row, layer, norm


@dataclass(frozen=True)
class Names:
    """What a layout calls the parts of a block.

    Attributes:
      norm1, conv1, embed, norm2, conv2, skip: of a residual block.
      group_norm, query, key, value, proj: of a plain attention layer.
      attention: its kernels' kind, a key of `LAYOUTS`.
    """

    norm1: str = "norm1"
    conv1: str = "conv1"
    embed: str = "time_emb_proj"
    norm2: str = "norm2"
    conv2: str = "conv2"
    skip: str = "conv_shortcut"
    group_norm: str = "group_norm"
    query: str = "to_q"
    key: str = "to_k"
    value: str = "to_v"
    proj: str = "to_out.0"
    attention: str = "dense"


DIFFUSERS = Names()
# CompVis's and Stability's U-Net and autoencoder.
ORIGINAL_UNET = Names(
    norm1="in_layers.0",
    conv1="in_layers.2",
    embed="emb_layers.1",
    norm2="out_layers.0",
    conv2="out_layers.3",
    skip="skip_connection",
)
ORIGINAL_VAE = Names(
    skip="nin_shortcut",
    group_norm="norm",
    query="q",
    key="k",
    value="v",
    proj="proj_out",
    attention="pointwise",
)


def block_rows(
    ours: str, resnet: str, attention: str, names: Names, present: Mapping[str, Any], proj: str
) -> Iterator[Row]:
    """A `Block` called `ours`: its residual block and its attention, as far as they are `present`.

    Args:
      ours: our path of the block.
      resnet, attention: theirs of its two parts.
      names: of the layout.
      present: our parameters by path.
      proj: kind of a transformer's outer projections, "dense" or "pointwise".
    """
    if f"{ours}/resnet/conv1/kernel" in present:
        yield from resnet_rows(f"{ours}/resnet", resnet, names, present)
    if f"{ours}/attention/qkv/kernel" in present:
        yield from _attention(f"{ours}/attention", attention, names)
    if f"{ours}/transformer/proj_in/kernel" in present:
        yield from _transformer(f"{ours}/transformer", attention, proj, present)


def resnet_rows(ours: str, theirs: str, names: Names, present: Mapping[str, Any]) -> Iterator[Row]:
    """A `ResBlock`."""
    n = names
    yield from norm(f"{ours}/norm1", f"{theirs}.{n.norm1}")
    yield from layer(f"{ours}/conv1", f"{theirs}.{n.conv1}", "conv")
    if f"{ours}/embed/kernel" in present:
        yield from layer(f"{ours}/embed", f"{theirs}.{n.embed}", "dense")
    yield from norm(f"{ours}/norm2", f"{theirs}.{n.norm2}")
    yield from layer(f"{ours}/conv2", f"{theirs}.{n.conv2}", "conv")
    if f"{ours}/skip/kernel" in present:
        yield from layer(f"{ours}/skip", f"{theirs}.{n.skip}", "conv")


def resample_rows(
    ours: str, resnet: str, conv: str, names: Names, present: Mapping[str, Any]
) -> Iterator[Row]:
    """A change of resolution, where `present`: a residual block, or a convolution."""
    if f"{ours}/resnet/conv1/kernel" in present:
        yield from resnet_rows(f"{ours}/resnet", resnet, names, present)
    elif f"{ours}/kernel" in present:
        yield from layer(ours, conv, "conv")


def _attention(ours: str, theirs: str, n: Names) -> Iterator[Row]:
    yield from norm(f"{ours}/norm", f"{theirs}.{n.group_norm}")
    for leaf, kind, key in (("kernel", n.attention, "weight"), ("bias", "vector", "bias")):
        parts = tuple(f"{theirs}.{x}.{key}" for x in (n.query, n.key, n.value))
        yield Row(f"{ours}/qkv/{leaf}", parts, kind)
    yield from layer(f"{ours}/proj", f"{theirs}.{n.proj}", n.attention)


def _transformer(ours: str, theirs: str, proj: str, present: Mapping[str, Any]) -> Iterator[Row]:
    """A `SpatialTransformer`, the same in both layouts."""
    yield from norm(f"{ours}/norm", f"{theirs}.norm")
    for name in ("proj_in", "proj_out"):
        yield from layer(f"{ours}/{name}", f"{theirs}.{name}", proj)
    k = 0
    while f"{ours}/block_{k}/norm1/scale" in present:
        a, b = f"{ours}/block_{k}", f"{theirs}.transformer_blocks.{k}"
        yield from norm(f"{a}/norm1", f"{b}.norm1")
        parts = tuple(f"{b}.attn1.to_{x}.weight" for x in "qkv")
        yield Row(f"{a}/attention/qkv/kernel", parts, "dense")
        yield from layer(f"{a}/attention/proj", f"{b}.attn1.to_out.0", "dense")
        if f"{a}/cross/query/kernel" in present:
            yield from norm(f"{a}/norm2", f"{b}.norm2")
            for x, y in (("query", "q"), ("key", "k"), ("value", "v")):
                yield Row(f"{a}/cross/{x}/kernel", (f"{b}.attn2.to_{y}.weight",), "dense")
            yield from layer(f"{a}/cross/proj", f"{b}.attn2.to_out.0", "dense")
        yield from norm(f"{a}/norm3", f"{b}.norm3")
        yield from layer(f"{a}/mlp/layer1", f"{b}.ff.net.0.proj", "dense")
        yield from layer(f"{a}/mlp/layer2", f"{b}.ff.net.2", "dense")
        k += 1
