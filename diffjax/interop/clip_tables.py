"""Tables of a released CLIP's tensors and ours, one per layout.

Layouts: "openai" (also open_clip's plain `CLIP`), "open_clip_custom" (its `CustomTextCLIP`: the
text tower under `text.`) and "huggingface" (transformers' `CLIPModel`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from diffjax.choices import unknown
from diffjax.interop.tables import Row, layer, norm

# Buffers that hold no weights: sizes, masks, positions counted from 0, a count of batches.
IGNORED = re.compile(
    r"(^|\.)(position_ids|num_batches_tracked|attn_mask)$"
    r"|^(input_resolution|context_length|vocab_size)$"
)


def tell_layout(keys: Iterable[str]) -> str:
    """The layout of a state dict. Raises ValueError where it is no CLIP's."""
    marks = {
        "huggingface": "text_model.embeddings.token_embedding.weight",
        "open_clip_custom": "text.token_embedding.weight",
        "openai": "token_embedding.weight",
    }
    keys = set(keys)
    for layout, mark in marks.items():
        if mark in keys:
            return layout
    some = ", ".join(sorted(keys)[:3])
    raise ValueError(f"no CLIP's weights: none of {', '.join(marks.values())} is there, but {some}")


def clip_table(layout: str, ours: Iterable[str]) -> list[Row]:
    """The table of a network whose flat parameters and statistics are `ours`.

    Raises:
      ValueError: the layout is unknown, or has no place for such a network.
    """
    ours = set(ours)
    if layout == "huggingface":
        if "params/image/patch_in/kernel" not in ours or "params/logit_bias" in ours:
            raise ValueError(
                "layout 'huggingface' has no ResNet and no logit bias; use 'open_clip'"
            )
        rows = [*huggingface_text(ours), *_huggingface_image(ours)]
    elif layout in ("openai", "open_clip_custom"):
        vit = "params/image/patch_in/kernel" in ours
        text = "text." if layout == "open_clip_custom" else ""
        rows = [*openai_text(text, ours), *(_openai_vit(ours) if vit else _openai_resnet(ours))]
    else:
        raise unknown("layout", layout, ("openai", "open_clip_custom", "huggingface"))
    for name in ("logit_scale", "logit_bias"):
        if f"params/{name}" in ours:
            rows.append(Row(f"params/{name}", (name,), "vector"))
    return rows


def _blocks(tower: str, ours: set[str]) -> list[str]:
    found = {p.split("/")[2] for p in ours if p.startswith(f"params/{tower}/block_")}
    return sorted(found, key=lambda name: int(name.removeprefix("block_")))


def openai_text(theirs: str, ours: set[str]) -> Iterator[Row]:
    """The text tower of OpenAI's and open_clip's layouts, under `params/text/` in `ours`; theirs
    begin with `theirs`."""
    a = "params/text"
    yield Row(f"{a}/table", (f"{theirs}token_embedding.weight",), "table")
    yield Row(f"{a}/positions", (f"{theirs}positional_embedding",), "table")
    yield from _openai_blocks("text", f"{theirs}transformer", ours)
    yield from norm(f"{a}/norm_out", f"{theirs}ln_final")
    if f"{a}/project/kernel" in ours:
        # The projections are (in, out) already: x @ projection.
        yield Row(f"{a}/project/kernel", (f"{theirs}text_projection",), "table")


def _openai_vit(ours: set[str]) -> Iterator[Row]:
    a = "params/image"
    yield Row(f"{a}/patch_in/kernel", ("visual.conv1.weight",), "patch", 3)
    yield Row(f"{a}/class_token", ("visual.class_embedding",), "vector")
    yield Row(f"{a}/positions", ("visual.positional_embedding",), "table")
    yield from norm(f"{a}/norm_in", "visual.ln_pre")
    yield from _openai_blocks("image", "visual.transformer", ours)
    yield from norm(f"{a}/norm_out", "visual.ln_post")
    yield Row(f"{a}/project/kernel", ("visual.proj",), "table")


def _openai_blocks(tower: str, theirs: str, ours: set[str]) -> Iterator[Row]:
    for i, name in enumerate(_blocks(tower, ours)):
        a, b = f"params/{tower}/{name}", f"{theirs}.resblocks.{i}"
        yield from norm(f"{a}/norm1", f"{b}.ln_1")
        yield Row(f"{a}/attention/qkv/kernel", (f"{b}.attn.in_proj_weight",), "dense")
        yield Row(f"{a}/attention/qkv/bias", (f"{b}.attn.in_proj_bias",), "vector")
        yield from layer(f"{a}/attention/proj", f"{b}.attn.out_proj", "dense")
        yield from norm(f"{a}/norm2", f"{b}.ln_2")
        yield from layer(f"{a}/mlp/layer1", f"{b}.mlp.c_fc", "dense")
        yield from layer(f"{a}/mlp/layer2", f"{b}.mlp.c_proj", "dense")


def _openai_resnet(ours: set[str]) -> Iterator[Row]:
    for i in range(3):
        yield from _conv_norm(f"stem_{i}", f"visual.conv{i + 1}", f"visual.bn{i + 1}")
    for name in sorted({p.split("/")[2] for p in ours if p.startswith("params/image/level_")}):
        _, level, i = name.split("_")
        b = f"visual.layer{int(level) + 1}.{i}"
        for k in (1, 2, 3):
            yield from _conv_norm(f"{name}/layer{k}", f"{b}.conv{k}", f"{b}.bn{k}")
        if f"params/image/{name}/skip/conv/kernel" in ours:
            yield from _conv_norm(f"{name}/skip", f"{b}.downsample.0", f"{b}.downsample.1")
    a, b = "params/image/pool", "visual.attnpool"
    yield Row(f"{a}/positions", (f"{b}.positional_embedding",), "table")
    for x, y in (("query", "q"), ("key", "k"), ("value", "v"), ("project", "c")):
        yield from layer(f"{a}/{x}", f"{b}.{y}_proj", "dense")


def _conv_norm(ours: str, conv: str, bn: str) -> Iterator[Row]:
    yield Row(f"params/image/{ours}/conv/kernel", (f"{conv}.weight",), "conv")
    yield from norm(f"params/image/{ours}/norm", bn)
    yield Row(f"batch_stats/image/{ours}/norm/mean", (f"{bn}.running_mean",), "vector")
    yield Row(f"batch_stats/image/{ours}/norm/var", (f"{bn}.running_var",), "vector")


def huggingface_text(ours: set[str]) -> Iterator[Row]:
    """The text tower of transformers' layout, under `params/text/` in `ours`."""
    a, b = "params/text", "text_model.embeddings"
    yield Row(f"{a}/table", (f"{b}.token_embedding.weight",), "table")
    yield Row(f"{a}/positions", (f"{b}.position_embedding.weight",), "table")
    yield from _huggingface_blocks("text", "text_model", ours)
    yield from norm(f"{a}/norm_out", "text_model.final_layer_norm")
    if f"{a}/project/kernel" in ours:
        yield Row(f"{a}/project/kernel", ("text_projection.weight",), "dense")


def _huggingface_image(ours: set[str]) -> Iterator[Row]:
    a, b = "params/image", "vision_model.embeddings"
    yield Row(f"{a}/patch_in/kernel", (f"{b}.patch_embedding.weight",), "patch", 3)
    yield Row(f"{a}/class_token", (f"{b}.class_embedding",), "vector")
    yield Row(f"{a}/positions", (f"{b}.position_embedding.weight",), "table")
    yield from norm(f"{a}/norm_in", "vision_model.pre_layrnorm")  # the spelling is theirs
    yield from _huggingface_blocks("image", "vision_model", ours)
    yield from norm(f"{a}/norm_out", "vision_model.post_layernorm")
    yield Row(f"{a}/project/kernel", ("visual_projection.weight",), "dense")


def _huggingface_blocks(tower: str, theirs: str, ours: set[str]) -> Iterator[Row]:
    for i, name in enumerate(_blocks(tower, ours)):
        a, b = f"params/{tower}/{name}", f"{theirs}.encoder.layers.{i}"
        yield from norm(f"{a}/norm1", f"{b}.layer_norm1")
        for leaf, key, kind in (("kernel", "weight", "dense"), ("bias", "bias", "vector")):
            parts = tuple(f"{b}.self_attn.{x}_proj.{key}" for x in "qkv")
            yield Row(f"{a}/attention/qkv/{leaf}", parts, kind)
        yield from layer(f"{a}/attention/proj", f"{b}.self_attn.out_proj", "dense")
        yield from norm(f"{a}/norm2", f"{b}.layer_norm2")
        yield from layer(f"{a}/mlp/layer1", f"{b}.mlp.fc1", "dense")
        yield from layer(f"{a}/mlp/layer2", f"{b}.mlp.fc2", "dense")
