"""A CLIP's config section from and to transformers' JSON files that lie beside its weights.

Only what the shapes of the weights cannot say is read: activations, heads, pooling, pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffjax.bounded import shortened
from diffjax.choices import unknown
from diffjax.interop.fields import (
    COUNT,
    DEPTH,
    EPSILON,
    WIDTH,
    WORD,
    check_fields,
    optional,
    real,
    several,
    sub_map,
    whole,
)
from diffjax.interop.files import read_json, write_json
from diffjax.interop.sizes import check_sizes
from diffjax.models.clip import MEAN, STD

HUGGINGFACE = ("config.json", "preprocessor_config.json")
# Ours to transformers' `hidden_act`.
HIDDEN_ACT = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}
# The id that transformers takes to mean: the largest token.
ARGMAX_EOS = 2

_TOWER = {
    "num_attention_heads": WIDTH,
    "num_hidden_layers": DEPTH,
    "hidden_size": WIDTH,
    "vocab_size": COUNT,
    "max_position_embeddings": COUNT,
    "layer_norm_eps": EPSILON,
    "hidden_act": WORD,
    "eos_token_id": whole(0, 10_000_000),
}
PIXELS = {
    **dict.fromkeys(("image_mean", "mean"), optional(several(real(-1e3, 1e3), 3, 3))),
    **dict.fromkeys(("image_std", "std"), optional(several(real(1e-3, 1e3), 3, 3))),
}


def read_huggingface(folder: Path, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a folder of transformers': `image`, `text` (to be merged), `mean`, `std`.

    `sizes` are those of its weights, as `infer_section` gives them.

    Raises:
      ValueError: config.json is missing, or is another model's, or says what we do not have.
    """
    file = folder / HUGGINGFACE[0]
    if not file.is_file():
        raise ValueError(f"{folder} lacks config.json, which says the activation and the heads")
    config = read_json(file)
    kind = config.get("model_type")
    if kind != "clip":
        raise ValueError(f"{file} is of a {shortened(kind)} model, not of a 'clip'")
    found: dict[str, Any] = {}
    for name, key in (("image", "vision_config"), ("text", "text_config")):
        # Older files say some of it in `..._dict`, which then counts.
        section = {**sub_map(config, key, file), **sub_map(config, f"{key}_dict", file)}
        check_tower(section, sizes[name], file)
        found[name] = tower_says(section, file, "vision" if name == "image" else "text")
    if (folder / HUGGINGFACE[1]).is_file():
        pixels = read_json(folder / HUGGINGFACE[1])
        check_fields(pixels, folder / HUGGINGFACE[1], PIXELS)
        found |= pixels_said(pixels.get("image_mean"), pixels.get("image_std"))
    return found


def tower_says(section: Mapping[str, Any], file: Path, kind: str) -> dict[str, Any]:
    """Settings of a tower's section of transformers' config that its shapes do not hold; `kind` is
    "text" or "vision"."""
    check_fields(section, file, _TOWER)
    found = {
        "heads": section.get("num_attention_heads", 12 if kind == "vision" else 8),
        "eps": section.get("layer_norm_eps", 1e-5),
        "activation": _activation(section.get("hidden_act", "quick_gelu"), file),
    }
    if kind == "text":
        found |= _pooling(section.get("eos_token_id", 49407))
    return found


def check_tower(section: Mapping[str, Any], sizes: Mapping[str, Any], file: Path) -> None:
    """Compares what a tower's section of transformers' config says of its sizes with those that its
    weights have, as far as it says them.

    Raises:
      ValueError: the first that differs.
    """
    keys = {"num_hidden_layers": "depth", "hidden_size": "width", "vocab_size": "vocab",
            "max_position_embeddings": "context"}  # fmt: skip
    said = {
        key: (section[key], sizes[ours])
        for key, ours in keys.items()
        if key in section and ours in sizes
    }
    check_sizes(file, said)


def _activation(name: str, file: Path) -> str:
    ours = {theirs: ours for ours, theirs in HIDDEN_ACT.items()}
    if name not in ours:
        raise unknown(f"hidden_act of {file}:", name, ours)
    return ours[name]


def _pooling(eos: int) -> dict[str, Any]:
    if eos == ARGMAX_EOS:
        return {"pool": "argmax"}
    return {"pool": "first_eos", "eos": eos}


def pixels_said(mean: Any, std: Any) -> dict[str, Any]:
    """The mean and deviation of pixels, the paper's where None."""
    return {"mean": tuple(mean or MEAN), "std": tuple(std or STD)}


def write_huggingface(folder: Path, model: Any) -> None:
    """Writes config.json and preprocessor_config.json of a `CLIP`.

    Raises:
      ValueError: the network has what transformers' has not.
    """
    image, text, size = model.image, model.text, model.image.image_size
    vision = _huggingface_tower(image) | {"image_size": size, "patch_size": image.patch}
    language = huggingface_text(text)
    config = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": text.embed,
        "logit_scale_init_value": -math.log(model.temperature),
        "vision_config": {"model_type": "clip_vision_model", **vision},
        "text_config": {"model_type": "clip_text_model", **language},
    }
    pixels = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,  # bicubic
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": model.mean,
        "image_std": model.std,
    }
    for name, content in zip(HUGGINGFACE, (config, pixels), strict=True):
        write_json(folder / name, content)


def huggingface_text(text: Any) -> dict[str, Any]:
    """The section of a `TextTransformer` in transformers' config.

    Raises:
      ValueError: it reads the end of a text where transformers' cannot.
    """
    if text.pool == "first_eos" and text.eos == ARGMAX_EOS:
        raise ValueError(f"transformers takes eos={ARGMAX_EOS} for the largest token: use another")
    return _huggingface_tower(text) | {
        "vocab_size": text.vocab,
        "max_position_embeddings": text.context,
        # CLIP's vocabulary ends with its start and end tokens.
        "bos_token_id": text.vocab - 2,
        "eos_token_id": ARGMAX_EOS if text.pool == "argmax" else text.eos,
    }


def heads_of(tower: Any) -> int:
    """Heads of a tower's attention: 64 channels each unless it says."""
    return tower.heads or tower.width // 64


def _huggingface_tower(tower: Any) -> dict[str, Any]:
    return {
        "hidden_size": tower.width,
        "intermediate_size": round(tower.width * tower.mlp_ratio),
        "num_hidden_layers": tower.depth,
        "num_attention_heads": heads_of(tower),
        "hidden_act": HIDDEN_ACT[tower.activation],
        "layer_norm_eps": tower.eps,
        "projection_dim": tower.embed,
    }
