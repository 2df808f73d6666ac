"""Latent diffusion's autoencoder in and out: diffusers' folders and the original files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.interop.autoencoder_tables import autoencoder_table
from diffjax.interop.block_tables import modern
from diffjax.interop.fields import (
    COUNT,
    DEPTH,
    FLAG,
    LEVELS,
    SIZE,
    WIDTH,
    WORD,
    check_fields,
    optional,
    real,
    several,
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

WEIGHTS = "diffusion_pytorch_model.safetensors"
# Bottleneck -> diffusers' class.
CLASSES = {"kl": "AutoencoderKL", "vq": "VQModel"}
FACTS = ("sample_size", "force_upcast")
READ = {
    "sample_size": optional(SIZE),
    "force_upcast": optional(FLAG),
    "in_channels": WIDTH,
    "out_channels": WIDTH,
    "down_block_types": several(WORD, 1, LEVELS),
    "up_block_types": several(WORD, 1, LEVELS),
    "block_out_channels": several(WIDTH, 1, LEVELS),
    "layers_per_block": DEPTH,
    "latent_channels": WIDTH,
    "norm_num_groups": WIDTH,
    "scaling_factor": real(1e-6, 1e6),
    "shift_factor": optional(real(-1e6, 1e6)),
    "num_vq_embeddings": COUNT,
    "vq_embed_dim": optional(WIDTH),
}
PLAIN = {
    "act_fn": ("silu", "swish"),
    "use_quant_conv": (True,),
    "use_post_quant_conv": (True,),
    "mid_block_add_attention": (True,),
    "norm_type": ("group",),
}
# Names of a level's blocks, by whether they attend; the way they go is Down or Up.
_FORMS = ("{}{}coderBlock2D", "Attn{}{}coderBlock2D")
_WAYS = {"down_block_types": ("Down", "En"), "up_block_types": ("Up", "De")}


def load_autoencoder(folder: str | Path) -> Part:
    """The autoencoder of a folder of diffusers', an `AutoencoderKL` or a `VQModel`: config.json and
    weights, of today's names or those of before 2023.

    Its facts: `sample_size` in pixels, `force_upcast`.

    Raises:
      ValueError: as `load_unet`.
    """
    folder = Path(folder)
    config_file = folder / "config.json"
    config = read_config(config_file, CLASSES.values())
    section = _section(config, config_file)
    facts = {key: config[key] for key in FACTS if key in config}
    file = weights_file(folder)
    with blamed_on(file):
        weights = modern(read_tensors(file))
        check_stack(section, weights, "encoder.", config_file)
        _check_ends(section, weights, config_file)
        shapes = autoencoder_shapes(section)
        levels = len(section["channel_mult"])
        table = autoencoder_table(levels, section["blocks"], shapes)
        return fill(section, facts, weights, shapes, table)


def save_autoencoder(folder: str | Path, part: Part) -> None:
    """Writes config.json and weights for diffusers' `AutoencoderKL` or `VQModel`.

    Raises:
      ValueError: theirs cannot be like this network, or the variables are not its own.
    """
    folder, section = Path(folder), part.section
    config = _config(part)
    again = _section(config, folder / "config.json")
    check_same_network(_fixed(section), again, f"diffusers' {config['_class_name']}")
    shapes = autoencoder_shapes(section)
    table = autoencoder_table(len(section["channel_mult"]), section["blocks"], shapes)
    state = emptied(autoencoder_params(part), shapes, table)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    write_tensors(folder / WEIGHTS, state)


def autoencoder_params(part: Part) -> dict[str, np.ndarray]:
    """Path -> array, with codes that are averages among the parameters, as files have them."""
    codes = part.variables.get("codebook", {}).get("quantiser", {}).get("codes")
    found = flat_params(part)
    return found if codes is None else {**found, "quantiser/codes": np.asarray(codes)}


def autoencoder_shapes(section: Mapping[str, Any]) -> dict[str, Any]:
    """Shapes of the section's parameters, as files have them."""
    side = 2 ** (len(section["channel_mult"]) - 1)
    image = spec(1, side, side, section.get("image_channels", 3))
    return parameter_shapes(_fixed(section), image)


def _fixed(section: Mapping[str, Any]) -> dict[str, Any]:
    """The section of the network that a file gives back: its codes are parameters."""
    return {**section, "code_decay": None}


def _section(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The `model` section that a config.json describes."""
    check_plain(config, file, READ, PLAIN)
    check_fields(config, file, READ)
    widths = config.get("block_out_channels", (64,))
    attends = []
    for key, (way, half) in _WAYS.items():
        names = {form.format(way, half): bool(i) for i, form in enumerate(_FORMS)}
        types = config.get(key, (_FORMS[0].format(way, half),))
        if len(types) != len(widths) or not set(types) <= set(names):
            raise ValueError(f"{file}: {key}={list(types)} is not supported")
        attends.append([names[t] for t in types])
    if attends[0] != attends[1][::-1]:
        raise ValueError(f"{file}: down_block_types and up_block_types attend at different levels")
    latent, image = config.get("latent_channels", 4), config.get("in_channels", 3)
    if config.get("out_channels", 3) != image or config.get("vq_embed_dim") not in (None, latent):
        raise ValueError(f"{file}: images or latents in and out differ in channels: not supported")
    section = {
        "type": "autoencoder",
        "channels": widths[0],
        "channel_mult": multiples(widths, file),
        "blocks": config.get("layers_per_block", 1),
        "attention_levels": tuple(i for i, one in enumerate(attends[0]) if one),
        "latent_channels": latent,
        "image_channels": image,
        "scale": config.get("scaling_factor", 0.18215),
        "shift": config.get("shift_factor") or 0.0,
        "norm_groups": config.get("norm_num_groups", 32),
    }
    if config["_class_name"] == CLASSES["vq"]:
        section |= {"bottleneck": "vq", "codes": config.get("num_vq_embeddings", 256)}
    return section


def _check_ends(section: Mapping[str, Any], weights: Weights, file: Path) -> None:
    """Compares a config's images, latents and codes with its weights'."""
    sizes = {
        "in_channels": (
            section["image_channels"],
            axes_of(weights, "encoder.conv_in.weight", 4)[1],
        ),
        "latent_channels": (
            section["latent_channels"],
            axes_of(weights, "decoder.conv_in.weight", 4)[1],
        ),
    }
    if "codes" in section:
        codes = axes_of(weights, "quantize.embedding.weight", 2)[0]
        sizes["num_vq_embeddings"] = (section["codes"], codes)
    check_sizes(file, sizes)


def _config(part: Part) -> dict[str, Any]:
    """The config.json of a section."""
    s = part.section
    mult, bottleneck = s["channel_mult"], s.get("bottleneck", "kl")
    attends = [level in s.get("attention_levels", ()) for level in range(len(mult))]
    forms = {k: [_FORMS[a].format(*way) for a in attends] for k, way in _WAYS.items()}
    forms["up_block_types"].reverse()
    own: dict[str, Any] = {}
    if bottleneck == "vq":
        own = {"num_vq_embeddings": s["codes"]}
    elif s.get("shift"):
        own = {"shift_factor": s["shift"]}
    return {
        "_class_name": CLASSES[bottleneck],
        "in_channels": s.get("image_channels", 3),
        "out_channels": s.get("image_channels", 3),
        **forms,
        "block_out_channels": [s["channels"] * m for m in mult],
        "layers_per_block": s["blocks"],
        "latent_channels": s["latent_channels"],
        "norm_num_groups": s.get("norm_groups", 32),
        "scaling_factor": s.get("scale", 0.18215),
        **own,
        **{key: part.facts[key] for key in FACTS if key in part.facts},
    }


def infer_autoencoder(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The section of a state dict in the original layout, read off its shapes.

    Raises:
      ValueError: a tensor that says a size is missing.
    """
    try:
        first = weights["encoder.conv_in.weight"].shape
        latent = weights["post_quant_conv.weight"].shape
        widths: list[int] = []
        while (key := f"encoder.down.{len(widths)}.block.0.conv1.weight") in weights:
            widths.append(weights[key].shape[0])
        blocks = count_of(weights, "encoder.down.0.block")
        section = {
            "type": "autoencoder",
            "channels": first[0],
            "channel_mult": multiples(widths, Path("first stage")),
            "blocks": blocks,
            "attention_levels": tuple(
                i for i in range(len(widths)) if f"encoder.down.{i}.attn.0.norm.weight" in weights
            ),
            "latent_channels": latent[0],
            "image_channels": first[1],
        }
    except (KeyError, IndexError) as error:
        raise ValueError(f"no autoencoder of latent diffusion: {error} is not there") from error
    if "quantize.embedding.weight" in weights:
        codes = weights["quantize.embedding.weight"].shape[0]
        section |= {"bottleneck": "vq", "codes": codes}
    return section
