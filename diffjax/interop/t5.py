"""T5's encoder in and out: transformers' folders of a T5, of which the encoder alone is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.interop.fields import COUNT, DEPTH, WIDTH, check_fields, one_of, optional, real, whole
from diffjax.interop.files import read_tensors, weights_file, write_json, write_tensors
from diffjax.interop.parts import (
    Part,
    check_same_network,
    emptied,
    fill,
    flat_params,
    parameter_shapes,
    read_transformers,
    spec,
)
from diffjax.interop.sizes import Weights, axes_of, blamed_on, check_sizes, count_of
from diffjax.interop.tables import Row

KIND, CLASS = "t5", "T5EncoderModel"
# A T5's feed_forward_proj: 1.0's and 1.1's.
PROJECTIONS = {
    "relu": {"activation": "relu", "gated": False},
    "gated-gelu": {"activation": "gelu_tanh", "gated": True},
}
READ = {
    "vocab_size": COUNT,
    "d_model": WIDTH,
    "d_kv": WIDTH,
    "d_ff": WIDTH,
    "num_layers": DEPTH,
    "num_heads": WIDTH,
    "relative_attention_num_buckets": WIDTH,
    "relative_attention_max_distance": WIDTH,
    "layer_norm_epsilon": real(1e-30, 1),
    "feed_forward_proj": one_of(*PROJECTIONS),
    "pad_token_id": optional(whole(0, 10_000_000)),
}
_TABLE, _TIED = "shared.weight", "encoder.embed_tokens.weight"
_FIRST = "encoder.block.0.layer"
_BIASES = f"{_FIRST}.0.SelfAttention.relative_attention_bias.weight"


def load_t5(folder: str | Path) -> Part:
    """The encoder of a folder of transformers': a `T5EncoderModel`, or a whole `T5Model` or
    `T5ForConditionalGeneration`, whose decoder is left out.

    Raises:
      ValueError: one line: another model, or what its encoder cannot have; tensors that are
        missing, too many or of other sizes than config.json says.
    """
    folder = Path(folder)
    config, config_file = read_transformers(folder, KIND), folder / "config.json"
    check_fields(config, config_file, READ)
    section = _section(config)
    file = weights_file(folder)
    with blamed_on(file):
        weights = _encoder_alone(read_tensors(file))
        _check_sizes(section, weights, config_file)
        return fill(section, {}, weights, _shapes(section), t5_table(section))


def save_t5(folder: str | Path, part: Part) -> None:
    """Writes config.json and weights for `T5EncoderModel.from_pretrained`.

    Raises:
      ValueError: transformers' encoder cannot be like this one, or the variables are not its own.
    """
    folder, section = Path(folder), part.section
    if section.get("type") != KIND:
        raise ValueError(f"transformers' {CLASS} is a T5 encoder; this network is not one")
    config = _config(section)
    check_same_network(section, _section(config), f"transformers' {CLASS}")
    state = emptied(flat_params(part), _shapes(section), t5_table(section))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    write_tensors(folder / "model.safetensors", state)


def t5_table(section: Mapping[str, Any]) -> list[Row]:
    """The table of an encoder of this section."""
    rows = [
        Row("table", (_TABLE,), "table"),
        Row("positions", (_BIASES,), "table"),
        Row("norm_out/scale", ("encoder.final_layer_norm.weight",), "vector"),
    ]
    layers = {"layer1": "wi", "layer2": "wo"}
    if section.get("gated", True):
        layers = {"gate": "wi_0", "layer1": "wi_1", "layer2": "wo"}
    for i in range(section["depth"]):
        a, b = f"block_{i}", f"encoder.block.{i}.layer"
        for k in (0, 1):
            rows.append(Row(f"{a}/norm{k + 1}/scale", (f"{b}.{k}.layer_norm.weight",), "vector"))
        for ours, theirs in {"query": "q", "key": "k", "value": "v", "proj": "o"}.items():
            key = f"{b}.0.SelfAttention.{theirs}.weight"
            rows.append(Row(f"{a}/attention/{ours}/kernel", (key,), "dense"))
        for ours, theirs in layers.items():
            key = f"{b}.1.DenseReluDense.{theirs}.weight"
            rows.append(Row(f"{a}/{ours}/kernel", (key,), "dense"))
    return rows


def _encoder_alone(weights: Weights) -> dict[str, np.ndarray]:
    """The encoder's tensors, its table once: some files hold a copy under the encoder's name."""
    left_out = ("decoder.", "lm_head.")
    kept = {k: v for k, v in weights.items() if not k.startswith(left_out)}
    tied = kept.pop(_TIED, None)
    if tied is not None and not np.array_equal(kept.setdefault(_TABLE, tied), tied):
        raise ValueError(f"{_TIED} differs from {_TABLE}: they must be copies")
    return kept


def _shapes(section: Mapping[str, Any]) -> dict[str, Any]:
    return parameter_shapes(section, spec(1, 2, dtype="int32"))


def _check_sizes(section: Mapping[str, Any], weights: Weights, file: Path) -> None:
    """Compares a config's network with its weights."""
    vocab, width = axes_of(weights, _TABLE, 2)
    buckets, heads = axes_of(weights, _BIASES, 2)
    inner = axes_of(weights, f"{_FIRST}.0.SelfAttention.q.weight", 2)[0]
    hidden = axes_of(weights, f"{_FIRST}.1.DenseReluDense.wo.weight", 2)[1]
    gated = f"{_FIRST}.1.DenseReluDense.wi_0.weight" in weights
    kinds = {said["gated"]: name for name, said in PROJECTIONS.items()}
    check_sizes(
        file,
        {
            "vocab_size": (section["vocab"], vocab),
            "d_model": (section["width"], width),
            "num_layers": (section["depth"], count_of(weights, "encoder.block")),
            "num_heads": (section["heads"], heads),
            "num_heads * d_kv": (section["heads"] * section["head_dim"], inner),
            "d_ff": (section["hidden"], hidden),
            "relative_attention_num_buckets": (section["buckets"], buckets),
            "feed_forward_proj": (kinds[section["gated"]], kinds[gated]),
        },
    )


def _section(config: Mapping[str, Any]) -> dict[str, Any]:
    """The `model` section that a config.json describes."""
    pad = config.get("pad_token_id")
    return {
        "type": KIND,
        "vocab": config.get("vocab_size", 32128),
        "width": config.get("d_model", 512),
        "depth": config.get("num_layers", 6),
        "heads": config.get("num_heads", 8),
        "head_dim": config.get("d_kv", 64),
        "hidden": config.get("d_ff", 2048),
        **PROJECTIONS[config.get("feed_forward_proj", "relu")],
        "buckets": config.get("relative_attention_num_buckets", 32),
        "distance": config.get("relative_attention_max_distance", 128),
        "eps": config.get("layer_norm_epsilon", 1e-6),
        "pad": 0 if pad is None else pad,
    }


def _config(section: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of a section."""
    gated = section.get("gated", True)
    return {
        "architectures": [CLASS],
        "model_type": KIND,
        "vocab_size": section.get("vocab", 32128),
        "d_model": section.get("width", 768),
        "num_layers": section.get("depth", 12),
        "num_heads": section.get("heads", 12),
        "d_kv": section.get("head_dim", 64),
        "d_ff": section.get("hidden", 2048),
        "feed_forward_proj": next(k for k, v in PROJECTIONS.items() if v["gated"] == gated),
        "relative_attention_num_buckets": section.get("buckets", 32),
        "relative_attention_max_distance": section.get("distance", 128),
        "layer_norm_epsilon": section.get("eps", 1e-6),
        "pad_token_id": section.get("pad", 0),
        "eos_token_id": 1,  # of every T5; read by nothing here
        "is_encoder_decoder": False,
    }
