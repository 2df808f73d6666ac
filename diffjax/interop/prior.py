"""Diffusion priors in and out: diffusers' `PriorTransformer` folders (Karlo)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.interop.fields import COUNT, DEPTH, WIDTH, check_fields, optional, real
from diffjax.interop.files import read_tensors, weights_file, write_json, write_tensors
from diffjax.interop.parts import (
    Part,
    check_plain,
    check_same_network,
    emptied,
    fill,
    flat_params,
    parameter_shapes,
    read_config,
    spec,
)
from diffjax.interop.sizes import Weights, axes_of, blamed_on, check_sizes, count_of
from diffjax.interop.tables import Row, layer, norm
from diffjax.interop.unet import WEIGHTS
from diffjax.models.conditioning import Conditioning

CLASS = "PriorTransformer"
# Statistics of image embeddings, by which the diffused ones are standardised: [1, E] each.
STATISTICS = {"mean": "clip_mean", "std": "clip_std"}
# The text's embedding, the noise level, the noisy embedding and the query.
_OTHERS = 4
READ = {
    "num_attention_heads": WIDTH,
    "attention_head_dim": WIDTH,
    "num_layers": DEPTH,
    "embedding_dim": WIDTH,
    "num_embeddings": COUNT,
    "dropout": real(0, 1),
    "time_embed_dim": optional(WIDTH),
    "embedding_proj_dim": optional(WIDTH),
    "clip_embed_dim": optional(WIDTH),
}
PLAIN = {
    "additional_embeddings": (_OTHERS,),
    "time_embed_act_fn": ("silu",),
    "encoder_hid_proj_type": ("linear",),
    "added_emb_type": ("prd",),
}


def load_prior(folder: str | Path) -> Part:
    """The prior of a folder: config.json and weights.

    Its facts: the `mean` and `std [E]` of the embeddings, which its samples are multiplied by and
    moved to at the end.

    Raises:
      ValueError: as `load_unet`.
    """
    folder = Path(folder)
    config_file = folder / "config.json"
    config = read_config(config_file, (CLASS,))
    check_plain(config, config_file, READ, PLAIN)
    check_fields(config, config_file, READ)
    section = _section(config, config_file)
    file = weights_file(folder)
    with blamed_on(file):
        weights = dict(read_tensors(file))
        _check_sizes(section, config, weights, config_file)
        facts = {
            ours: np.asarray(weights.pop(theirs), np.float32)[0]
            for ours, theirs in STATISTICS.items()
            if theirs in weights
        }
        shapes = _shapes(section, config.get("embedding_dim", 768))
        return fill(section, facts, weights, shapes, prior_table(section["depth"]))


def save_prior(folder: str | Path, part: Part) -> None:
    """Writes config.json and weights for `PriorTransformer.from_pretrained`; embeddings without
    statistics among the facts have a mean of 0 and a deviation of 1.

    Raises:
      ValueError: diffusers' network cannot be like this one, or the variables are not its own.
    """
    folder, section, params = Path(folder), part.section, flat_params(part)
    if section.get("type") != "prior" or "context/kernel" not in params:
        raise ValueError(f"diffusers' {CLASS} is a prior with a context; this network is not one")
    context = params["context/kernel"].shape[0]
    config = _config(section)
    again = _section(config, folder / "config.json")
    check_same_network(section, again, f"diffusers' {CLASS}")
    if context != section["out_channels"]:
        raise ValueError(
            f"diffusers' {CLASS} reads text tokens of the embeddings' width, "
            f"{section['out_channels']}, but this prior's are of {context}"
        )
    shapes = _shapes(section, context)
    state = emptied(params, shapes, prior_table(section["depth"]))
    fresh = {"mean": np.zeros(section["out_channels"]), "std": np.ones(section["out_channels"])}
    for ours, theirs in STATISTICS.items():
        state[theirs] = np.asarray(part.facts.get(ours, fresh[ours]), np.float32)[None]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    write_tensors(folder / WEIGHTS, state)


def prior_table(depth: int) -> list[Row]:
    """The table of a prior of `depth` blocks."""
    rows = [
        Row("positions", ("positional_embedding",), "batch_of_one"),
        Row("query", ("prd_embedding",), "sequence_of_one"),
        *layer("time/layer1", "time_embedding.linear_1", "dense"),
        *layer("time/layer2", "time_embedding.linear_2", "dense"),
        *layer("embedding", "proj_in", "dense"),
        *layer("vector", "embedding_proj", "dense"),
        *layer("context", "encoder_hidden_states_proj", "dense"),
    ]
    for i in range(depth):
        a, b = f"block_{i}", f"transformer_blocks.{i}"
        rows += norm(f"{a}/norm1", f"{b}.norm1")
        for leaf, kind, key in (("kernel", "dense", "weight"), ("bias", "vector", "bias")):
            parts = tuple(f"{b}.attn1.to_{x}.{key}" for x in "qkv")
            rows.append(Row(f"{a}/attention/qkv/{leaf}", parts, kind))
        rows += layer(f"{a}/attention/proj", f"{b}.attn1.to_out.0", "dense")
        rows += norm(f"{a}/norm2", f"{b}.norm3")
        rows += layer(f"{a}/mlp/layer1", f"{b}.ff.net.0.proj", "dense")
        rows += layer(f"{a}/mlp/layer2", f"{b}.ff.net.2", "dense")
    rows += norm("norm_out", "norm_out")
    rows += layer("out", "proj_to_clip_embeddings", "dense")
    return rows


def _shapes(section: Mapping[str, Any], context: int) -> dict[str, Any]:
    cond = Conditioning(
        vector=spec(1, section["vector_dim"]),  # type: ignore[arg-type]
        context=spec(1, section["context_length"], context),  # type: ignore[arg-type]
    )
    return parameter_shapes(section, spec(1, section["out_channels"]), spec(1), cond)


def _check_sizes(
    section: Mapping[str, Any], config: Mapping[str, Any], weights: Weights, file: Path
) -> None:
    """Compares a config's network with its weights."""
    width, text = axes_of(weights, "encoder_hidden_states_proj.weight", 2)
    check_sizes(
        file,
        {
            "num_layers": (section["depth"], count_of(weights, "transformer_blocks")),
            "num_attention_heads * attention_head_dim": (section["width"], width),
            "embedding_dim": (config.get("embedding_dim", 768), text),
            "num_embeddings + additional_embeddings": (
                section["context_length"] + _OTHERS,
                axes_of(weights, "positional_embedding", 3)[1],
            ),
        },
    )


def _section(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The `model` section that a config.json describes."""
    heads, size = config.get("num_attention_heads", 32), config.get("attention_head_dim", 64)
    width, embed = heads * size, config.get("embedding_dim", 768)
    if (config.get("time_embed_dim") or width) != width:
        raise ValueError(f"{file}: time_embed_dim={config['time_embed_dim']} is not supported")
    if (config.get("clip_embed_dim") or embed) != embed:
        raise ValueError(
            f"{file}: clip_embed_dim={config['clip_embed_dim']} beside embedding_dim={embed}: it "
            "would predict other embeddings than it is given"
        )
    return {
        "type": "prior",
        "out_channels": embed,
        "width": width,
        "depth": config.get("num_layers", 20),
        "heads": heads,
        "context_length": config.get("num_embeddings", 77),
        "vector_dim": config.get("embedding_proj_dim") or embed,
    }


def _config(section: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of a section."""
    embed, vector = section["out_channels"], section.get("vector_dim", 768)
    return {
        "_class_name": CLASS,
        "num_attention_heads": section.get("heads", 32),
        "attention_head_dim": section.get("width", 2048) // section.get("heads", 32),
        "num_layers": section.get("depth", 20),
        "embedding_dim": embed,
        "num_embeddings": section.get("context_length", 77),
        "additional_embeddings": _OTHERS,
        "dropout": 0.0,
        "embedding_proj_dim": None if vector == embed else vector,
    }
