"""Rows of the blocks that U-Nets and autoencoders share, in each layout's own names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffjax.interop.tables import Row, layer, norm

# What diffusers called the parts of an attention layer before version 0.17.
_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_NAME = re.compile(rf"(\.attentions\.\d+\.)({'|'.join(_OLD)})(\.)")
_PROJECTION = re.compile(r"\.attentions\.\d+\.to_(q|k|v|out\.0)\.weight$")


@dataclass(frozen=True)
class Names:
    """A layout's names of the parts of a block.

    Attributes:
      norm1, conv1, embed, norm2, conv2, skip: of a residual block.
      group_norm, query, key, value, proj: of a plain attention layer.
      attention: its kernels' kind, "dense", "pointwise" or "line".
      fused: of the one projection that stands for query, key and value; None where there are three.
      context: of the one that stands for key and value of a context within self-attention; None
        where there are two.
      groups: channels of a layer -> groups of (query, key, value) that its fused rows stand in.
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
    fused: str | None = None
    context: str | None = None
    groups: Callable[[int], int] = lambda channels: 1


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
# iDDPM's, ADM's and GLIDE's U-Net; how their rows are grouped depends on the heads.
OPENAI_UNET = dataclasses.replace(
    ORIGINAL_UNET,
    group_norm="norm",
    fused="qkv",
    context="encoder_kv",
    proj="proj_out",
    attention="line",
)
# EDM's U-Nets: rows of one channel's query, key and value, whatever the heads.
EDM_UNET = Names(
    norm1="norm0",
    conv1="conv0",
    embed="affine",
    norm2="norm1",
    conv2="conv1",
    skip="skip",
    group_norm="norm2",
    fused="qkv",
    proj="proj",
    attention="pointwise",
    groups=lambda channels: channels,
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
        yield from _attention(f"{ours}/attention", attention, names, present)
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


def _attention(ours: str, theirs: str, n: Names, present: Mapping[str, Any]) -> Iterator[Row]:
    yield from norm(f"{ours}/norm", f"{theirs}.{n.group_norm}")
    groups = n.groups(present[f"{ours}/qkv/kernel"].shape[0])
    for leaf, kind, key in (("kernel", n.attention, "weight"), ("bias", "vector", "bias")):
        if n.fused:
            one = (f"{theirs}.{n.fused}.{key}",)
            yield Row(f"{ours}/qkv/{leaf}", one, f"fused_{kind}", groups)
        else:
            parts = tuple(f"{theirs}.{x}.{key}" for x in (n.query, n.key, n.value))
            yield Row(f"{ours}/qkv/{leaf}", parts, kind)
        if f"{ours}/context_kv/{leaf}" in present and n.context:
            one = (f"{theirs}.{n.context}.{key}",)
            yield Row(f"{ours}/context_kv/{leaf}", one, f"paired_{kind}", groups)
        elif f"{ours}/context_kv/{leaf}" in present:
            added = tuple(f"{theirs}.add_{x}_proj.{key}" for x in "kv")
            yield Row(f"{ours}/context_kv/{leaf}", added, kind)
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


def modern(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict of diffusers' in its names and shapes of today: attention was once called
    `query`, ..., and an autoencoder's layers of it were 1x1 convolutions."""
    found = {}
    for old, value in weights.items():
        key = _OLD_NAME.sub(lambda m: f"{m[1]}{_OLD[m[2]]}{m[3]}", old)
        flat = _PROJECTION.search(key) and value.shape[2:] == (1, 1)
        found[key] = value[:, :, 0, 0] if flat else value
    return found
