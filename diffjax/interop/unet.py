"""Stable Diffusion's U-Net in and out: diffusers' `UNet2DConditionModel` folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffjax.interop.fields import (
    DEPTH,
    EPSILON,
    FLAG,
    LEVELS,
    SIZE,
    WIDTH,
    WORD,
    check_fields,
    optional,
    per_level,
    real,
    several,
    whole,
)
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
from diffjax.interop.sizes import (
    Weights,
    axes_of,
    blamed_on,
    check_sizes,
    check_stack,
    count_of,
)
from diffjax.interop.unet_tables import Projection, rename_table
from diffjax.models.conditioning import Conditioning

CLASS = "UNet2DConditionModel"
WEIGHTS = "diffusion_pytorch_model.safetensors"
# Names of a level's blocks, by whether they attend.
_FORMS = ("{}Block2D", "CrossAttn{}Block2D")
# (flip_sin_to_cos, freq_shift) -> time_embed.
WAVES = {
    (True, 0): "cos",
    (True, 1): "cos_endpoint",
    (False, 0): "sin",
    (False, 1): "sin_endpoint",
}
# What all U-Nets of diffusers' say.
LEVELLED = {
    "flip_sin_to_cos": FLAG,
    "freq_shift": real(-1e6, 1e6),
    "down_block_types": several(WORD, 1, LEVELS),
    "up_block_types": several(WORD, 1, LEVELS),
    "block_out_channels": several(WIDTH, 1, LEVELS),
    "downsample_padding": whole(0, 1),
    "norm_num_groups": WIDTH,
    "norm_eps": EPSILON,
}
# Kept beside the section, and written back.
FACTS = ("sample_size", "use_linear_projection", "upcast_attention")
READ = {
    "sample_size": optional(SIZE),
    "use_linear_projection": optional(FLAG),
    "upcast_attention": optional(FLAG),
    "in_channels": WIDTH,
    "out_channels": WIDTH,
    **LEVELLED,
    "layers_per_block": per_level(DEPTH),
    "cross_attention_dim": optional(per_level(WIDTH)),
    "transformer_layers_per_block": per_level(DEPTH),
    "attention_head_dim": per_level(WIDTH),
}
PLAIN = {
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "mid_block_scale_factor": (1,),
    "dropout": (0.0,),
    "act_fn": ("silu", "swish"),
    "resnet_time_scale_shift": ("default",),
    "resnet_out_scale_factor": (1.0,),
    "time_embedding_type": ("positional",),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "attention_type": ("default",),
    "addition_embed_type_num_heads": (64,),
}


def load_unet(folder: str | Path) -> Part:
    """The U-Net of a folder of diffusers': config.json and weights.

    Its facts: `sample_size` in latents, `use_linear_projection`, `upcast_attention` (the softmax is
    in float32 here whatever it says).

    Raises:
      ValueError: one line: a file is missing, damaged or of another network, or says what ours
        has not; tensors missing or unexpected; shapes that do not fit.
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
        _check_attention(config, section, weights, config_file)
        shapes = unet_shapes(section, weights, "conv_in.weight", "attn2.to_k.weight")
        proj = projection(facts)
        table = rename_table(section["channel_mult"], section["blocks"], shapes, proj)
        return fill(section, facts, weights, shapes, table)


def save_unet(folder: str | Path, part: Part) -> None:
    """Writes config.json and weights for `UNet2DConditionModel.from_pretrained`.

    Raises:
      ValueError: diffusers' network cannot be like this one, or the variables are not its own.
    """
    folder, section, params = Path(folder), part.section, flat_params(part)
    config = _config(part)
    check_same_network(section, _section(config, folder / "config.json"), f"diffusers' {CLASS}")
    shapes = unet_shapes(section, params, "conv_in/kernel", "cross/key/kernel")
    proj = projection(part.facts)
    table = rename_table(tuple(section["channel_mult"]), section["blocks"], shapes, proj)
    state = emptied(params, shapes, table)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    write_tensors(folder / WEIGHTS, state)


def _check_attention(
    config: Mapping[str, Any], section: Mapping[str, Any], weights: Weights, file: Path
) -> None:
    """Compares the transformers of a config, and the ends of its network, with its weights."""
    places = [f"down_blocks.{i}.attentions.0" for i in section["attention_levels"]]
    depths = {count_of(weights, f"{place}.transformer_blocks") for place in places}
    sizes = {
        "transformer_layers_per_block": (section["transformer_depth"], max(depths, default=0)),
        "out_channels": (section["out_channels"], axes_of(weights, "conv_out.weight", 4)[0]),
    }
    if not places:
        del sizes["transformer_layers_per_block"]
    if "in_channels" in config:
        channels = axes_of(weights, "conv_in.weight", 4)[1]
        sizes["in_channels"] = (config["in_channels"], channels)
    check_sizes(file, sizes)


def time_embed(config: Mapping[str, Any], file: Path) -> str:
    """The key of `SINUSOIDS` that a config.json means."""
    wave = bool(config.get("flip_sin_to_cos", True)), int(config.get("freq_shift", 0))
    if wave not in WAVES:
        raise ValueError(f"{file}: freq_shift={wave[1]} is not supported (0 and 1 are)")
    return WAVES[wave]


def projection(facts: Mapping[str, Any]) -> Projection:
    """The kind of the transformers' outer projections in a file with these facts."""
    return "dense" if facts.get("use_linear_projection") else "pointwise"


def unet_shapes(
    section: Mapping[str, Any], weights: Weights, first: str, key: str
) -> dict[str, Any]:
    """Shapes of the section's parameters, for the input and token widths that the weights have.

    Args:
      section: of the `UNet`.
      weights: theirs or ours.
      first: the key of the first convolution.
      key: how keys of the layers that turn tokens to keys end.
    """
    wide = sorted(k for k in weights if k.endswith(key))
    if first not in weights or not wide:
        raise ValueError(
            f"no U-Net with cross-attention: {first} or ...{key} is not there, but "
            f"{', '.join(sorted(weights)[:3])}"
        )
    channels = axes_of(weights, first, 4)[2 if first.endswith("kernel") else 1]
    tokens = axes_of(weights, wide[0], 2)[0 if key.endswith("kernel") else 1]
    side = 2 ** (len(section["channel_mult"]) - 1)
    image = spec(1, side, side, channels)
    return parameter_shapes(section, image, spec(1), Conditioning(context=spec(1, 1, tokens)))  # type: ignore[arg-type]


def _section(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The `model` section that a config.json describes."""
    check_plain(config, file, READ, PLAIN)
    check_fields(config, file, READ)
    widths = config.get("block_out_channels", (320, 640, 1280, 1280))
    levels = len(widths)
    down = config.get("down_block_types", ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",))
    up = config.get("up_block_types", ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3)
    names = {form.format(way): i for way in ("Down", "Up") for i, form in enumerate(_FORMS)}
    for types in (down, up):
        if len(types) != levels or not set(types) <= set(names):
            raise ValueError(f"{file}: blocks {list(types)} are not supported for {levels} levels")
    attends = [bool(names[t]) for t in down]
    if attends != [bool(names[t]) for t in reversed(up)]:
        raise ValueError(f"{file}: down_block_types and up_block_types attend at different levels")
    return {
        "type": "unet",
        "channels": widths[0],
        "out_channels": config.get("out_channels", 4),
        "channel_mult": multiples(widths, file),
        "blocks": _one(config.get("layers_per_block", 2), "layers_per_block", file),
        "attention_levels": tuple(i for i in range(levels) if attends[i]),
        "transformer_depth": _one(
            config.get("transformer_layers_per_block", 1), "transformer_layers_per_block", file
        ),
        **_heads(config.get("attention_head_dim", 8), widths, file),
        "norm_groups": config.get("norm_num_groups", 32),
        "norm_eps": config.get("norm_eps", 1e-5),
        "time_embed": time_embed(config, file),
        "down_padding": "both" if config.get("downsample_padding", 1) else "end",
        "cross_attention": True,
        "init_style": "adm",
    }


def _one(value: Any, name: str, file: Path) -> int:
    """A number that may be given once per level."""
    values = set(value) if isinstance(value, list) else {value}
    if len(values) != 1:
        raise ValueError(f"{file}: {name}={value!r} differs between levels: not supported")
    return values.pop()


def _heads(count: Any, widths: Sequence[int], file: Path) -> dict[str, int]:
    """Heads by number or by width: "attention_head_dim" is the number of heads (SD 1), per level
    such that each is 64 wide in SD 2."""
    counts = count if isinstance(count, list) else [count] * len(widths)
    if len(set(counts)) == 1:
        return {"num_heads": counts[0]}
    sizes = {w / n for w, n in zip(widths, counts, strict=True)}
    if len(sizes) == 1 and (size := sizes.pop()) == int(size):
        return {"head_channels": int(size)}
    raise ValueError(f"{file}: attention_head_dim={count!r} is neither one number nor one width")


def _config(part: Part) -> dict[str, Any]:
    """The config.json of a section."""
    section, params = part.section, flat_params(part)
    mult = section["channel_mult"]
    widths = [section["channels"] * m for m in mult]
    attends = [level in (section.get("attention_levels") or ()) for level in range(len(mult))]
    size = section.get("head_channels")
    heads = section.get("num_heads", 1) if size is None else [w // size for w in widths]
    waves = {name: wave for wave, name in WAVES.items()}
    cos_first, shift = waves.get(section.get("time_embed", "sin_endpoint"), (True, 0))
    wide = next((v for k, v in params.items() if k.endswith("cross/key/kernel")), None)
    if wide is None or "conv_in/kernel" not in params:
        raise ValueError(f"diffusers' {CLASS} attends to tokens; these parameters do not")
    return {
        "_class_name": CLASS,
        "in_channels": params["conv_in/kernel"].shape[2],
        "out_channels": section["out_channels"],
        "flip_sin_to_cos": cos_first,
        "freq_shift": shift,
        "down_block_types": [_FORMS[a].format("Down") for a in attends],
        "up_block_types": [_FORMS[a].format("Up") for a in reversed(attends)],
        "block_out_channels": widths,
        "layers_per_block": section.get("blocks", 2),
        "downsample_padding": int(section.get("down_padding", "end") == "both"),
        "norm_num_groups": section.get("norm_groups", 32),
        "norm_eps": section.get("norm_eps", 1e-6),
        "cross_attention_dim": wide.shape[0],
        "transformer_layers_per_block": section.get("transformer_depth", 0),
        "attention_head_dim": heads,
        **{key: part.facts[key] for key in FACTS if key in part.facts},
    }
