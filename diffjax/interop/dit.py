"""DiT in and out: diffusers' `DiTTransformer2DModel` folders; and in, the authors' own files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from diffjax.interop.dit_tables import diffusers_table, original_table
from diffjax.interop.fields import (
    COUNT,
    DEPTH,
    EPSILON,
    FLAG,
    SIDE,
    SIZE,
    WIDTH,
    check_fields,
    optional,
    real,
)
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
from diffjax.interop.unet import WEIGHTS
from diffjax.models.conditioning import Conditioning
from diffjax.models.dit import grid_positions

CLASS = "DiTTransformer2DModel"
# What folders written before version 0.31 call it: facebook/DiT-XL-2-256 does.
OLD_CLASS = "Transformer2DModel"
FACTS = ("sample_size",)
READ = {
    "sample_size": optional(SIZE),
    "num_attention_heads": WIDTH,
    "attention_head_dim": WIDTH,
    "in_channels": WIDTH,
    "out_channels": optional(WIDTH),
    "num_layers": DEPTH,
    "dropout": real(0, 1),
    "patch_size": SIDE,
    "num_embeds_ada_norm": COUNT,
    "norm_eps": EPSILON,
    "norm_num_groups": optional(WIDTH),
    "upcast_attention": optional(FLAG),
}
PLAIN = {
    "attention_bias": (True,),
    "activation_fn": ("gelu-approximate",),
    "norm_type": ("ada_norm_zero",),
    "attention_type": ("default",),
    "interpolation_scale": (None, 1, 1.0),
    "use_additional_conditions": (None, False),
}
# Peebles & Xie 2023, Table 1: width -> heads.
_HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}


def load_dit(folder: str | Path) -> Part:
    """The transformer of a folder of diffusers' `DiTPipeline`: config.json and weights.

    Its fact: `sample_size`, the side of the latents. diffusers' network is not quite the authors':
    its times end at exactly 1 / 10,000, and the norm before each MLP has an epsilon of its own.

    Raises:
      ValueError: as `load_unet`.
    """
    folder = Path(folder)
    config_file = folder / "config.json"
    config = read_config(config_file, (CLASS, OLD_CLASS))
    section = _section(config, config_file)
    facts = {key: config[key] for key in FACTS if key in config}
    channels = config.get("in_channels", 4)
    file = weights_file(folder)
    with blamed_on(file):
        weights = read_tensors(file)
        _check_sizes(section, channels, weights, config_file)
        table = diffusers_table(section["depth"], channels)
        return fill(section, facts, weights, _shapes(section, channels), table)


def save_dit(folder: str | Path, part: Part) -> None:
    """Writes config.json and weights for `DiTTransformer2DModel.from_pretrained`.

    Layers that were scanned over are written one by one.

    Raises:
      ValueError: diffusers' network cannot be like this one, the variables are not its own, or the
        fact `sample_size` is not known, without which theirs has no positions.
    """
    folder, part = Path(folder), unscanned(part)
    section, params = part.section, flat_params(part)
    if section.get("type") != "dit" or "patch_in/kernel" not in params:
        raise ValueError(f"diffusers' {CLASS} is a DiT; this network is not one")
    if not isinstance(part.facts.get("sample_size"), int):
        raise ValueError("the side of the latents is not known: give facts={'sample_size': 32}")
    channels = params["patch_in/kernel"].shape[0] // section["patch"] ** 2
    config = _config(section, channels, part.facts)
    check_same_network(section, _section(config, folder / "config.json"), f"diffusers' {CLASS}")
    shapes = _shapes(section, channels)
    state = emptied(params, shapes, diffusers_table(section["depth"], channels))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    write_tensors(folder / WEIGHTS, state)


def load_dit_original(file: str | Path, heads: int | None = None) -> Part:
    """A `.pt` of the authors' (its averaged weights, of a training checkpoint), or a safetensors of
    the same tensors; the first is a pickle, read without running what is in it.

    Raises:
      ValueError: the file cannot be read, and as `dit_of_original`.
    """
    return dit_of_original(read_tensors(Path(file)), Path(file), heads)


def dit_of_original(
    weights: Mapping[str, np.ndarray], file: Path, heads: int | None = None
) -> Part:
    """The network of tensors in the authors' layout, which `file` held.

    Sizes are read off the shapes; heads are the paper's for the width, unless given.

    Raises:
      ValueError: one line: tensors of another architecture, too many or too few.
    """
    weights = dict(weights)
    with blamed_on(file):
        section, facts, channels = _infer(weights, heads)
        held = np.asarray(weights.pop("pos_embed"), np.float32)
        side = facts["sample_size"] // section["patch"]
        far = np.abs(held[0] - grid_positions(side, side, section["width"])).max()
        if not far <= 1e-4:
            raise ValueError("its positions are not the fixed sines and cosines of a DiT")
        table = original_table(section["depth"], channels)
        return fill(section, facts, weights, _shapes(section, channels), table)


def unscanned(part: Part) -> Part:
    """The part with a block's parameters each, where layers were scanned over."""
    if not part.section.get("scan_layers"):
        return part
    stacked = flatten_dict(dict(part.variables["params"]["blocks"]), sep="/")
    params = {k: v for k, v in part.variables["params"].items() if k != "blocks"}
    for i in range(part.section["depth"]):
        one = {path: np.asarray(value)[i] for path, value in stacked.items()}
        params[f"block_{i}"] = unflatten_dict(one, sep="/")
    section = {k: v for k, v in part.section.items() if k not in ("scan_layers", "remat")}
    return part._replace(section=section, variables={"params": params})


def _shapes(section: Mapping[str, Any], channels: int) -> dict[str, Any]:
    side = section["patch"]
    image, label = spec(1, side, side, channels), spec(1, dtype="int32")
    return parameter_shapes(section, image, spec(1), Conditioning(label))  # type: ignore[arg-type]


def _check_sizes(section: Mapping[str, Any], channels: int, weights: Weights, file: Path) -> None:
    """Compares a config's network with its weights."""
    blocks = "transformer_blocks"
    width, shown, side, _ = axes_of(weights, "pos_embed.proj.weight", 4)
    table = f"{blocks}.0.norm1.emb.class_embedder.embedding_table.weight"
    out = section["out_channels"] * section["patch"] ** 2
    check_sizes(
        file,
        {
            "num_layers": (section["depth"], count_of(weights, blocks)),
            "num_attention_heads * attention_head_dim": (section["width"], width),
            "in_channels": (channels, shown),
            "patch_size": (section["patch"], side),
            "num_embeds_ada_norm": (section["num_classes"], axes_of(weights, table, 2)[0] - 1),
            "out_channels * patch_size^2": (out, axes_of(weights, "proj_out_2.weight", 2)[0]),
        },
    )


def _section(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The `model` section that a config.json describes."""
    if config["_class_name"] == OLD_CLASS and config.get("norm_type") != "ada_norm_zero":
        said = config.get("norm_type", "layer_norm")
        raise ValueError(f"{file}: a {OLD_CLASS} of norm_type={said!r} is no DiT")
    check_plain(config, file, READ, PLAIN)
    check_fields(config, file, READ)
    heads, size = config.get("num_attention_heads", 16), config.get("attention_head_dim", 72)
    channels, eps = config.get("in_channels", 4), config.get("norm_eps", 1e-5)
    return {
        "type": "dit",
        "width": heads * size,
        "depth": config.get("num_layers", 28),
        "heads": heads,
        "patch": config.get("patch_size", 2),
        "out_channels": config.get("out_channels") or channels,
        "num_classes": config.get("num_embeds_ada_norm", 1000),
        "null_class": True,
        "time_embed": "cos_endpoint",
        "dropout": config.get("dropout", 0.0),
        "eps": 1e-6,
        "mlp_eps": None if eps == 1e-6 else eps,
    }


def _config(section: Mapping[str, Any], channels: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of a section, whose latents have `channels`."""
    eps = section.get("eps", 1e-6)
    return {
        "_class_name": CLASS,
        "num_attention_heads": section["heads"],
        "attention_head_dim": section["width"] // section["heads"],
        "in_channels": channels,
        "out_channels": section["out_channels"],
        "num_layers": section["depth"],
        "dropout": section.get("dropout", 0.0),
        "attention_bias": True,
        "patch_size": section["patch"],
        "activation_fn": "gelu-approximate",
        "num_embeds_ada_norm": section.get("num_classes", 0),
        "norm_type": "ada_norm_zero",
        "norm_elementwise_affine": False,
        "norm_eps": eps if section.get("mlp_eps") is None else section["mlp_eps"],
        **{key: facts[key] for key in FACTS if key in facts},
    }


def _infer(
    weights: Mapping[str, np.ndarray], heads: int | None
) -> tuple[dict[str, Any], dict[str, Any], int]:
    """The section, the facts and the channels of the latents, of a file in the authors' layout."""
    try:
        width, channels, patch, _ = weights["x_embedder.proj.weight"].shape
        classes = len(weights["y_embedder.embedding_table.weight"])
        side = math.isqrt(weights["pos_embed"].shape[1])
        out = len(weights["final_layer.linear.bias"]) // patch**2
        hidden = len(weights["blocks.0.mlp.fc1.bias"])
        time = weights["t_embedder.mlp.0.weight"].shape[1]
    except (KeyError, IndexError, ValueError) as error:
        some = ", ".join(sorted(weights)[:3])
        raise ValueError(f"no DiT in its authors' layout: {error} ({some}, ...)") from error
    heads = heads or _HEADS.get(width)
    if heads is None:
        raise ValueError(
            f"a DiT of width {width} is none of the paper's (S, B, L, XL: {list(_HEADS)}): its "
            "heads must be given"
        )
    section = {
        "type": "dit",
        "width": width,
        "depth": count_of(weights, "blocks"),
        "heads": heads,
        "patch": patch,
        "out_channels": out,
        "mlp_ratio": hidden / width,
        "num_classes": classes - 1,
        "time_features": time,
    }
    return section, {"sample_size": side * patch}, channels
