"""Pixel diffusion's U-Net in and out: diffusers' `UNet2DModel` folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffjax.interop.block_tables import modern
from diffjax.interop.fields import (
    COUNT,
    DEPTH,
    FLAG,
    SIZE,
    WIDTH,
    WORD,
    check_fields,
    one_of,
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
    multiples,
    parameter_shapes,
    read_config,
    spec,
)
from diffjax.interop.sizes import Weights, axes_of, blamed_on, check_sizes, check_stack
from diffjax.interop.unet import LEVELLED, WAVES, WEIGHTS, time_embed
from diffjax.interop.unet_tables import rename_table
from diffjax.models.conditioning import Conditioning

CLASS = "UNet2DModel"
FACTS = ("sample_size",)
# (attends, changes resolution by residual blocks) -> names of a level's blocks; one that attends
# says by downsample_type and upsample_type how it changes resolution.
_FORMS = {
    (False, False): ("DownBlock2D", "UpBlock2D"),
    (True, False): ("AttnDownBlock2D", "AttnUpBlock2D"),
    (False, True): ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D"),
    (True, True): ("AttnDownBlock2D", "AttnUpBlock2D"),
}
_RESAMPLE = {"conv": "conv", "resnet": "resblock"}
_SHIFTS = {"default": False, "scale_shift": True}
READ = {
    "sample_size": optional(SIZE),
    "in_channels": WIDTH,
    "out_channels": WIDTH,
    **LEVELLED,
    "layers_per_block": DEPTH,
    "dropout": real(0, 1),
    "downsample_type": one_of(*_RESAMPLE),
    "upsample_type": one_of(*_RESAMPLE),
    "attention_head_dim": optional(WIDTH),
    "attn_norm_num_groups": optional(WIDTH),
    "resnet_time_scale_shift": WORD,
    "add_attention": FLAG,
    "num_class_embeds": optional(COUNT),
    "time_embedding_dim": optional(WIDTH),
    "num_train_timesteps": optional(COUNT),
}
PLAIN = {
    "time_embedding_type": ("positional",),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "act_fn": ("silu", "swish"),
}


def load_unet_2d(folder: str | Path) -> Part:
    """The U-Net of a folder of diffusers': config.json and weights, of today's names or those of
    before 2023. Its fact: `sample_size` in pixels.

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
        weights = modern(read_tensors(file))
        check_stack(section, weights, "", config_file)
        _check_ends(config, section, weights, config_file)
        shapes = unet_2d_shapes(section, config.get("in_channels", 3))
        table = rename_table(section["channel_mult"], section["blocks"], shapes)
        return fill(section, facts, weights, shapes, table)


def save_unet_2d(folder: str | Path, part: Part) -> None:
    """Writes config.json and weights for `UNet2DModel.from_pretrained`.

    Of a network that attends by the height of its maps the fact `sample_size` says which levels
    those are.

    Raises:
      ValueError: diffusers' network cannot be like this one, or the variables are not its own.
    """
    folder, params = Path(folder), flat_params(part)
    if "conv_in/kernel" not in params or part.section.get("type") != "unet":
        raise ValueError(f"diffusers' {CLASS} is a U-Net; this network is not one")
    channels, section = params["conv_in/kernel"].shape[2], _by_level(part)
    config = _config(section, channels, part.facts)
    check_same_network(section, _section(config, folder / "config.json"), f"diffusers' {CLASS}")
    shapes = unet_2d_shapes(section, channels)
    table = rename_table(tuple(section["channel_mult"]), section["blocks"], shapes)
    state = emptied(params, shapes, table)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    write_tensors(folder / WEIGHTS, state)


def unet_2d_shapes(section: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """Shapes of the parameters of a section that attends by level, for images of `channels`."""
    side = 2 ** (len(section["channel_mult"]) - 1)
    label = spec(1, dtype="int32") if section.get("num_classes") else None
    return parameter_shapes(section, spec(1, side, side, channels), spec(1), Conditioning(label))  # type: ignore[arg-type]


def _check_ends(
    config: Mapping[str, Any], section: Mapping[str, Any], weights: Weights, file: Path
) -> None:
    """Compares what goes into and comes out of a config's network with its weights."""
    sizes = {
        "in_channels": (config.get("in_channels", 3), axes_of(weights, "conv_in.weight", 4)[1]),
        "out_channels": (section["out_channels"], axes_of(weights, "conv_out.weight", 4)[0]),
    }
    if "num_classes" in section:
        classes = axes_of(weights, "class_embedding.weight", 2)[0]
        sizes["num_class_embeds"] = (section["num_classes"], classes)
    check_sizes(file, sizes)


def _by_level(part: Part) -> dict[str, Any]:
    """The section with the levels that attend, by the size of its images."""
    section: dict[str, Any] = {"channel_mult": (1, 2, 2, 2), "blocks": 2, **part.section}
    if section.get("attention_levels") is None:
        size = part.facts.get("sample_size")
        if not isinstance(size, int):
            raise ValueError(
                "which levels attend depends on the size of the images: give it, "
                "facts={'sample_size': 32}"
            )
        heights = section.pop("attention_resolutions", (16,))
        levels = range(len(section["channel_mult"]))
        section["attention_levels"] = tuple(i for i in levels if size >> i in heights)
    return section


def _section(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The `model` section that a config.json describes."""
    check_plain(config, file, READ, PLAIN)
    check_fields(config, file, READ)
    widths = config.get("block_out_channels", (224, 448, 672, 896))
    shift = config.get("resnet_time_scale_shift", "default")
    if shift not in _SHIFTS:
        raise ValueError(f"{file}: resnet_time_scale_shift={shift!r} is not supported")
    groups, middle = config.get("norm_num_groups", 32), config.get("add_attention", True)
    # Without a number of its own the middle's attention has no norm under scale_shift.
    in_middle = config.get("attn_norm_num_groups") or (None if _SHIFTS[shift] else groups)
    if middle and in_middle != groups:
        raise ValueError(
            f"{file}: attn_norm_num_groups={in_middle} differs from norm_num_groups={groups}: not "
            "supported"
        )
    attends, resample = _levels(config, len(widths), file)
    classes, wide = config.get("num_class_embeds"), config.get("time_embedding_dim")
    return {
        "type": "unet",
        "channels": widths[0],
        "out_channels": config.get("out_channels", 3),
        "channel_mult": multiples(widths, file),
        "blocks": config.get("layers_per_block", 2),
        "attention_levels": attends,
        "head_channels": config.get("attention_head_dim", 8),
        "mid_attention": middle,
        "resample": resample,
        "down_padding": "both" if config.get("downsample_padding", 1) else "end",
        "scale_shift": _SHIFTS[shift],
        "dropout": config.get("dropout", 0.0),
        "norm_groups": groups,
        "norm_eps": config.get("norm_eps", 1e-5),
        "time_embed": time_embed(config, file),
        **({"embed_channels": wide} if wide else {}),
        **({"num_classes": classes, "null_class": False} if classes else {}),
        "init_style": "ddpm",
    }


def _levels(config: Mapping[str, Any], count: int, file: Path) -> tuple[tuple[int, ...], str]:
    """The levels that attend, and how all of them change resolution."""
    down = config.get("down_block_types", ("DownBlock2D", *("AttnDownBlock2D",) * 3))
    up = config.get("up_block_types", (*("AttnUpBlock2D",) * 3, "UpBlock2D"))
    kinds: list[list[bool]] = []
    resamples = set()
    for way, (types, key) in enumerate(((down, "downsample_type"), (up, "upsample_type"))):
        names = {forms[way]: kind for kind, forms in reversed(_FORMS.items())}
        if len(types) != count or not set(types) <= set(names):
            raise ValueError(f"{file}: blocks {list(types)} are not supported for {count} levels")
        kinds.append([names[t][0] for t in types])
        # The last block of each way changes no resolution.
        for attends, residual in (names[t] for t in types[:-1]):
            said = config.get(key, "conv") if attends else "resnet" if residual else "conv"
            resamples.add(_RESAMPLE[said])
    if kinds[0] != kinds[1][::-1]:
        raise ValueError(f"{file}: down_block_types and up_block_types attend at different levels")
    if len(resamples) > 1:
        raise ValueError(f"{file}: levels change resolution in different ways: not supported")
    attends = tuple(i for i, one in enumerate(kinds[0]) if one)
    return attends, resamples.pop() if resamples else "conv"


def _config(section: Mapping[str, Any], channels: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of a section, whose images have `channels`."""
    mult = section["channel_mult"]
    residual = section.get("resample", "conv") == "resblock"
    attends = [level in (section.get("attention_levels") or ()) for level in range(len(mult))]
    forms = [_FORMS[one, residual] for one in attends]
    kind = "resnet" if residual else "conv"
    cos_first, shift = {v: k for k, v in WAVES.items()}.get(
        section.get("time_embed", "sin_endpoint"), (True, 0)
    )
    groups, shifted = section.get("norm_groups", 32), section.get("scale_shift", False)
    classes, wide = section.get("num_classes"), section.get("embed_channels")
    return {
        "_class_name": CLASS,
        "in_channels": channels,
        "out_channels": section["out_channels"],
        "flip_sin_to_cos": cos_first,
        "freq_shift": shift,
        "down_block_types": [down for down, _ in forms],
        "up_block_types": [up for _, up in reversed(forms)],
        "block_out_channels": [section["channels"] * m for m in mult],
        "layers_per_block": section.get("blocks", 2),
        "downsample_padding": int(section.get("down_padding", "end") == "both"),
        "downsample_type": kind,
        "upsample_type": kind,
        "dropout": section.get("dropout", 0.0),
        "attention_head_dim": section.get("head_channels"),
        "norm_num_groups": groups,
        "attn_norm_num_groups": groups if shifted else None,
        "norm_eps": section.get("norm_eps", 1e-6),
        "resnet_time_scale_shift": "scale_shift" if shifted else "default",
        "add_attention": section.get("mid_attention", True),
        **({"num_class_embeds": classes} if classes else {}),
        **({"time_embedding_dim": wide} if wide else {}),
        **{key: facts[key] for key in FACTS if key in facts},
    }
