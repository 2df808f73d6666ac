"""BERT in and out: transformers' folders of a BERT, of which the encoder alone is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.interop.fields import COUNT, DEPTH, WIDTH, check_fields, one_of, optional, real, whole
from diffjax.interop.files import read_tensors, weights_file, write_json, write_tensors
from diffjax.interop.parts import (
    Part,
    check_plain,
    check_same_network,
    emptied,
    fill,
    flat_params,
    parameter_shapes,
    read_transformers,
    spec,
)
from diffjax.interop.sizes import Weights, axes_of, blamed_on, check_sizes, count_of
from diffjax.interop.tables import Row, layer, norm

KIND, CLASS = "bert", "BertModel"
# transformers' `hidden_act` to ours.
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "relu": "relu"}
READ = {
    "vocab_size": COUNT,
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": WIDTH,
    "intermediate_size": WIDTH,
    "max_position_embeddings": COUNT,
    "type_vocab_size": COUNT,
    "layer_norm_eps": real(1e-30, 1),
    "hidden_act": one_of(*ACTIVATIONS),
    "pad_token_id": optional(whole(0, 10_000_000)),
}
# What makes another network of it; whatever else a config says is of training or of heads.
PLAIN = {"position_embedding_type": (None, "absolute"), "is_decoder": (None, False)}
_EMBEDDINGS = "embeddings"
_NORMS = {"gamma": "weight", "beta": "bias"}  # as files before version 0.5 name them
_OLD = re.compile(r"(LayerNorm\.)(gamma|beta)$")


def load_bert(folder: str | Path) -> Part:
    """The encoder of a folder of transformers': a `BertModel`, with its pooler or without, or one
    with a head (`BertForPreTraining`, ...), which is left out.

    Raises:
      ValueError: as `load_t5`.
    """
    folder = Path(folder)
    config, config_file = read_transformers(folder, KIND), folder / "config.json"
    check_fields(config, config_file, READ)
    check_plain({k: v for k, v in config.items() if k in PLAIN}, config_file, READ, PLAIN)
    section = _section(config)
    file = weights_file(folder)
    with blamed_on(file):
        weights = _encoder_alone(read_tensors(file))
        _check_sizes(section, weights, config_file)
        pooled = "pooler.dense.weight" in weights
        return fill(section, {}, weights, _shapes(section, pooled), bert_table(section, pooled))


def save_bert(folder: str | Path, part: Part) -> None:
    """Writes config.json and weights for `BertModel.from_pretrained`, without a pooler where the
    part has none (`add_pooling_layer=False`).

    Raises:
      ValueError: transformers' encoder cannot be like this one, or the variables are not its own.
    """
    folder, section = Path(folder), part.section
    if section.get("type") != KIND:
        raise ValueError(f"transformers' {CLASS} is a BERT; this network is not one")
    config = _config(section)
    check_same_network(section, _section(config), f"transformers' {CLASS}")
    params = flat_params(part)
    pooled = "pool/kernel" in params
    state = emptied(params, _shapes(section, pooled), bert_table(section, pooled))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    write_tensors(folder / "model.safetensors", state)


def bert_table(section: Mapping[str, Any], pooled: bool) -> list[Row]:
    """The table of an encoder of this section, with its pooler if `pooled`."""
    tables = {"table": "word", "positions": "position", "types": "token_type"}
    rows = [
        Row(ours, (f"{_EMBEDDINGS}.{theirs}_embeddings.weight",), "table")
        for ours, theirs in tables.items()
    ]
    rows += norm("norm_in", f"{_EMBEDDINGS}.LayerNorm")
    for i in range(section["depth"]):
        a, b = f"block_{i}", f"encoder.layer.{i}"
        for leaf, kind, key in (("kernel", "dense", "weight"), ("bias", "vector", "bias")):
            parts = tuple(f"{b}.attention.self.{x}.{key}" for x in ("query", "key", "value"))
            rows.append(Row(f"{a}/attention/qkv/{leaf}", parts, kind))
        rows += layer(f"{a}/attention/proj", f"{b}.attention.output.dense", "dense")
        rows += norm(f"{a}/norm1", f"{b}.attention.output.LayerNorm")
        rows += layer(f"{a}/mlp/layer1", f"{b}.intermediate.dense", "dense")
        rows += layer(f"{a}/mlp/layer2", f"{b}.output.dense", "dense")
        rows += norm(f"{a}/norm2", f"{b}.output.LayerNorm")
    return [*rows, *layer("pool", "pooler.dense", "dense")] if pooled else rows


def _encoder_alone(weights: Weights) -> dict[str, np.ndarray]:
    """The encoder's tensors under its own names of today, without heads and counters."""
    inside = any(key.startswith("bert.") for key in weights)
    kept = {}
    for key, value in weights.items():
        if inside and not key.startswith("bert."):
            continue
        name = _OLD.sub(lambda m: m[1] + _NORMS[m[2]], key.removeprefix("bert."))
        if name not in (f"{_EMBEDDINGS}.position_ids", f"{_EMBEDDINGS}.token_type_ids"):
            kept[name] = value
    return kept


def _shapes(section: Mapping[str, Any], pooled: bool) -> dict[str, Any]:
    return parameter_shapes(section, spec(1, 2, dtype="int32"), static={"pooled": pooled})


def _check_sizes(section: Mapping[str, Any], weights: Weights, file: Path) -> None:
    """Compares a config's network with its weights."""
    sizes = {
        name: axes_of(weights, f"{_EMBEDDINGS}.{name}_embeddings.weight", 2)
        for name in ("word", "position", "token_type")
    }
    hidden = axes_of(weights, "encoder.layer.0.intermediate.dense.weight", 2)[0]
    check_sizes(
        file,
        {
            "vocab_size": (section["vocab"], sizes["word"][0]),
            "hidden_size": (section["width"], sizes["word"][1]),
            "num_hidden_layers": (section["depth"], count_of(weights, "encoder.layer")),
            "intermediate_size": (section["hidden"], hidden),
            "max_position_embeddings": (section["context"], sizes["position"][0]),
            "type_vocab_size": (section["types"], sizes["token_type"][0]),
        },
    )


def _section(config: Mapping[str, Any]) -> dict[str, Any]:
    """The `model` section that a config.json describes."""
    pad = config.get("pad_token_id")
    return {
        "type": KIND,
        "vocab": config.get("vocab_size", 30522),
        "width": config.get("hidden_size", 768),
        "depth": config.get("num_hidden_layers", 12),
        "heads": config.get("num_attention_heads", 12),
        "hidden": config.get("intermediate_size", 3072),
        "context": config.get("max_position_embeddings", 512),
        "types": config.get("type_vocab_size", 2),
        "activation": ACTIVATIONS[config.get("hidden_act", "gelu")],
        "eps": config.get("layer_norm_eps", 1e-12),
        "pad": 0 if pad is None else pad,
    }


def _config(section: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of a section."""
    activation = section.get("activation", "gelu")
    return {
        "architectures": [CLASS],
        "model_type": KIND,
        "vocab_size": section.get("vocab", 30522),
        "hidden_size": section.get("width", 768),
        "num_hidden_layers": section.get("depth", 12),
        "num_attention_heads": section.get("heads", 12),
        "intermediate_size": section.get("hidden", 3072),
        "max_position_embeddings": section.get("context", 512),
        "type_vocab_size": section.get("types", 2),
        "hidden_act": next(k for k, v in ACTIVATIONS.items() if v == activation),
        "layer_norm_eps": section.get("eps", 1e-12),
        "pad_token_id": section.get("pad", 0),
    }
