"""Tables of a released DiT's tensors and ours: diffusers' layout and the authors' own."""

from __future__ import annotations

from diffjax.interop.tables import Row, layer

LABEL = "LabelTable_0/table"


def diffusers_table(depth: int, channels: int) -> list[Row]:
    """diffusers' `DiTTransformer2DModel`, of `depth` blocks, for latents of `channels`.

    There every block has the time's layers and the classes' table, all of them copies.
    """
    blocks = [f"transformer_blocks.{i}" for i in range(depth)]
    embedders = [f"{b}.norm1.emb" for b in blocks]
    tables = tuple(f"{e}.class_embedder.embedding_table.weight" for e in embedders)
    rows = [Row(LABEL, tables, "table", copies=True)]
    for i in (1, 2):
        places = [f"{e}.timestep_embedder.linear_{i}" for e in embedders]
        for leaf, kind, key in (("kernel", "dense", "weight"), ("bias", "vector", "bias")):
            keys = tuple(f"{place}.{key}" for place in places)
            rows.append(Row(f"embed/layer{i}/{leaf}", keys, kind, copies=True))
    rows += _patches("pos_embed.proj", channels)
    for i, b in enumerate(blocks):
        a = f"block_{i}"
        rows += layer(f"{a}/modulation", f"{b}.norm1.linear", "dense")
        for leaf, kind, key in (("kernel", "dense", "weight"), ("bias", "vector", "bias")):
            parts = tuple(f"{b}.attn1.to_{x}.{key}" for x in "qkv")
            rows.append(Row(f"{a}/attention/qkv/{leaf}", parts, kind))
        rows += layer(f"{a}/attention/proj", f"{b}.attn1.to_out.0", "dense")
        rows += layer(f"{a}/mlp/layer1", f"{b}.ff.net.0.proj", "dense")
        rows += layer(f"{a}/mlp/layer2", f"{b}.ff.net.2", "dense")
    rows += layer("modulation_out", "proj_out_1", "dense")
    rows += layer("patch_out", "proj_out_2", "dense")
    return rows


def original_table(depth: int, channels: int) -> list[Row]:
    """The authors' layout, but for its fixed positions; arguments as above."""
    rows = [
        Row(LABEL, ("y_embedder.embedding_table.weight",), "table"),
        *layer("embed/layer1", "t_embedder.mlp.0", "dense"),
        *layer("embed/layer2", "t_embedder.mlp.2", "dense"),
        *_patches("x_embedder.proj", channels),
        *layer("modulation_out", "final_layer.adaLN_modulation.1", "dense"),
        *layer("patch_out", "final_layer.linear", "dense"),
    ]
    for i in range(depth):
        a, b = f"block_{i}", f"blocks.{i}"
        rows += layer(f"{a}/modulation", f"{b}.adaLN_modulation.1", "dense")
        rows += layer(f"{a}/attention/qkv", f"{b}.attn.qkv", "dense")
        rows += layer(f"{a}/attention/proj", f"{b}.attn.proj", "dense")
        rows += layer(f"{a}/mlp/layer1", f"{b}.mlp.fc1", "dense")
        rows += layer(f"{a}/mlp/layer2", f"{b}.mlp.fc2", "dense")
    return rows


def _patches(theirs: str, channels: int) -> list[Row]:
    return [
        Row("patch_in/kernel", (f"{theirs}.weight",), "patch", channels),
        Row("patch_in/bias", (f"{theirs}.bias",), "vector"),
    ]
