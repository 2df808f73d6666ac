"""unCLIP's decoder in and out: the `UNet2DConditionModel` folders of Karlo.

Of Stable Diffusion's U-Net, of the same class, this one differs in that its context joins the
pixels' self-attention, and that the vector of its conditioning is added as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffjax.interop.fields import DEPTH, FLAG, SIZE, WIDTH, WORD, check_fields, optional
from diffjax.interop.files import read_tensors, weights_file, write_json, write_tensors
from diffjax.interop.parts import (
    Part,
    check_plain,
    check_same_network,
    emptied,
    fill,
    flat_params,
    multiples,
    parameter_shapes,
    read_config,
    spec,
)
from diffjax.interop.sizes import Weights, axes_of, blamed_on, check_sizes, check_stack
from diffjax.interop.unet import CLASS, LEVELLED, PLAIN, WAVES, WEIGHTS, time_embed
from diffjax.interop.unet_tables import rename_table
from diffjax.models.conditioning import Conditioning

FACTS = ("sample_size",)
# Names of a level's blocks, by whether they attend.
_FORMS = ("Resnet{}sampleBlock2D", "SimpleCrossAttn{}Block2D")
_SHIFTS = {"default": False, "scale_shift": True}
_MIDDLE, _TO_TIME = "UNetMidBlock2DSimpleCrossAttn", "identity"
# Of the norms of attention, whatever the file says of the others.
_NORM_EPS = 1e-5
READ = {
    "sample_size": optional(SIZE),
    "in_channels": WIDTH,
    "out_channels": WIDTH,
    **LEVELLED,
    "layers_per_block": DEPTH,
    "cross_attention_dim": WIDTH,
    "attention_head_dim": WIDTH,
    "resnet_time_scale_shift": WORD,
    "mid_block_type": WORD,
    "class_embed_type": optional(WORD),
    # Of transformers, which it has none of.
    "transformer_layers_per_block": DEPTH,
    "use_linear_projection": FLAG,
    "upcast_attention": FLAG,
}
_PLAIN = {k: v for k, v in PLAIN.items() if k not in READ}


def load_unclip_decoder(folder: str | Path) -> Part:
    """The decoder of a folder: config.json and weights. Its fact: `sample_size` in pixels.

    Raises:
      ValueError: as `load_unet`.
    """
    folder = Path(folder)
    config_file = folder / "config.json"
    config = read_config(config_file, (CLASS,))
    section = _section(config, config_file)
    facts = {key: config[key] for key in FACTS if key in config}
    file = weights_file(folder)
    with blamed_on(file):
        weights = read_tensors(file)
        check_stack(section, weights, "", config_file)
        channels, context = config.get("in_channels", 4), config.get("cross_attention_dim", 1280)
        _check_ends(section, weights, channels, context, config_file)
        shapes = _shapes(section, channels, context)
        table = rename_table(section["channel_mult"], section["blocks"], shapes)
        return fill(section, facts, weights, shapes, table)


def save_unclip_decoder(folder: str | Path, part: Part) -> None:
    """Writes config.json and weights for `UNet2DConditionModel.from_pretrained`.

    Raises:
      ValueError: diffusers' network cannot be like this one, or the variables are not its own.
    """
    folder, section, params = Path(folder), part.section, flat_params(part)
    wide = next((v for k, v in params.items() if k.endswith("context_kv/kernel")), None)
    if wide is None or "conv_in/kernel" not in params:
        raise ValueError(
            f"an unCLIP decoder of diffusers' {CLASS} takes tokens into self-attention "
            "(added_kv=True); this network does not"
        )
    channels, context = params["conv_in/kernel"].shape[2], wide.shape[0]
    config = _config(section, channels, context, part.facts)
    check_same_network(section, _section(config, folder / "config.json"), f"diffusers' {CLASS}")
    shapes = _shapes(section, channels, context)
    table = rename_table(tuple(section["channel_mult"]), section.get("blocks", 2), shapes)
    state = emptied(params, shapes, table)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    write_tensors(folder / WEIGHTS, state)


def _shapes(section: Mapping[str, Any], channels: int, context: int) -> dict[str, Any]:
    side = 2 ** (len(section["channel_mult"]) - 1)
    cond = Conditioning(
        vector=spec(1, section["vector_dim"]),  # type: ignore[arg-type]
        context=spec(1, 1, context),  # type: ignore[arg-type]
    )
    return parameter_shapes(section, spec(1, side, side, channels), spec(1), cond)


def _check_ends(
    section: Mapping[str, Any], weights: Weights, channels: int, context: int, file: Path
) -> None:
    """Compares what goes into and comes out of a config's network with its weights."""
    first = "mid_block.attentions.0.add_k_proj.weight"
    check_sizes(
        file,
        {
            "in_channels": (channels, axes_of(weights, "conv_in.weight", 4)[1]),
            "out_channels": (section["out_channels"], axes_of(weights, "conv_out.weight", 4)[0]),
            "cross_attention_dim": (context, axes_of(weights, first, 2)[1]),
        },
    )


def _section(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The `model` section that a config.json describes."""
    check_plain(config, file, READ, _PLAIN)
    check_fields(config, file, READ)
    shift = config.get("resnet_time_scale_shift", "default")
    eps = config.get("norm_eps", _NORM_EPS)
    for key, said, had in (
        ("mid_block_type", config.get("mid_block_type"), (_MIDDLE,)),
        ("class_embed_type", config.get("class_embed_type"), (_TO_TIME,)),
        ("resnet_time_scale_shift", shift, _SHIFTS),
        ("norm_eps", eps, (_NORM_EPS,)),
    ):
        if said not in had:
            raise ValueError(
                f"{file}: {key}={said!r} is not supported ({', '.join(map(str, had))} is)"
            )
    widths = config.get("block_out_channels", (320, 640, 1280, 1280))
    return {
        "type": "unet",
        "channels": widths[0],
        "out_channels": config.get("out_channels", 4),
        "channel_mult": multiples(widths, file),
        "blocks": config.get("layers_per_block", 2),
        "attention_levels": _levels(config, len(widths), file),
        "head_channels": config.get("attention_head_dim", 8),
        "resample": "resblock",
        "scale_shift": _SHIFTS[shift],
        "norm_groups": config.get("norm_num_groups", 32),
        "norm_eps": eps,
        "time_embed": time_embed(config, file),
        "vector_dim": 4 * widths[0],
        "project_vector": False,
        "cross_attention": True,
        "added_kv": True,
        "init_style": "adm",
    }


def _levels(config: Mapping[str, Any], count: int, file: Path) -> tuple[int, ...]:
    """The levels that attend."""
    attends: list[list[bool]] = []
    for key, way in (("down_block_types", "Down"), ("up_block_types", "Up")):
        types, names = config.get(key, ()), [form.format(way) for form in _FORMS]
        if len(types) != count or not set(types) <= set(names):
            raise ValueError(f"{file}: blocks {list(types)} are not supported for {count} levels")
        attends.append([t == names[1] for t in types])
    if attends[0] != attends[1][::-1]:
        raise ValueError(f"{file}: down_block_types and up_block_types attend at different levels")
    return tuple(i for i, one in enumerate(attends[0]) if one)


def _config(
    section: Mapping[str, Any], channels: int, context: int, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """The config.json of a section, whose images have `channels`."""
    mult = section["channel_mult"]
    attends = [level in (section.get("attention_levels") or ()) for level in range(len(mult))]
    cos_first, shift = {v: k for k, v in WAVES.items()}.get(
        section.get("time_embed", "sin_endpoint"), (True, 0)
    )
    return {
        "_class_name": CLASS,
        "in_channels": channels,
        "out_channels": section["out_channels"],
        "flip_sin_to_cos": cos_first,
        "freq_shift": shift,
        "down_block_types": [_FORMS[a].format("Down") for a in attends],
        "mid_block_type": _MIDDLE,
        "up_block_types": [_FORMS[a].format("Up") for a in reversed(attends)],
        "block_out_channels": [section["channels"] * m for m in mult],
        "layers_per_block": section.get("blocks", 2),
        "norm_num_groups": section.get("norm_groups", 32),
        "norm_eps": section.get("norm_eps", 1e-6),
        "cross_attention_dim": context,
        "attention_head_dim": section.get("head_channels"),
        "class_embed_type": _TO_TIME,
        "resnet_time_scale_shift": "scale_shift" if section.get("scale_shift") else "default",
        **{key: facts[key] for key in FACTS if key in facts},
    }
