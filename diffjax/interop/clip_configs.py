"""A CLIP's config section from and to the JSON files that lie beside its weights.

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
    FLAG,
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
from diffjax.models.clip import CLIP, MEAN, STD

HUGGINGFACE = ("config.json", "preprocessor_config.json")
OPEN_CLIP = "open_clip_config.json"
# Ours to transformers' `hidden_act`.
HIDDEN_ACT = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}
# The id that transformers takes to mean: the largest token.
ARGMAX_EOS = 2
# Keys of open_clip's that change the network in ways that are not ours, and the values that do not.
PLAIN: dict[str, tuple[Any, ...]] = {
    "timm_model_name": (None,), "hf_model_name": (None,), "ls_init_value": (None,),
    "attentional_pool": (False,), "pool_type": ("tok", "argmax", "eos"),
    "no_ln_pre": (False,), "pos_embed_type": ("learnable",), "final_ln_after_pool": (False,),
    "no_causal_mask": (False,), "embed_cls": (False,), "proj_bias": (False,),
    "proj_type": ("linear",), "act_kwargs": (None, {}), "norm_kwargs": (None, {}),
    "qk_norm": (False,), "scaled_cosine_attn": (False,), "scale_heads": (False,),
    "scale_attn_inner": (False,), "scale_attn": (False,), "scale_fc": (False,),
}  # fmt: skip

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
_VISION = {"width": WIDTH, "head_width": WIDTH}
_TEXT = {"heads": WIDTH, "pool_type": WORD, "eos_id": whole(0, 10_000_000)}
_PIXELS = {
    **dict.fromkeys(("image_mean", "mean"), optional(several(real(-1e3, 1e3), 3, 3))),
    **dict.fromkeys(("image_std", "std"), optional(several(real(1e-3, 1e3), 3, 3))),
}


def read_huggingface(folder: Path) -> dict[str, Any]:
    """What a folder of transformers' says: `image`, `text` (to be merged), `mean`, `std`.

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
        found[name] = tower_says(section, file, "vision" if name == "image" else "text")
    if (folder / HUGGINGFACE[1]).is_file():
        pixels = read_json(folder / HUGGINGFACE[1])
        check_fields(pixels, folder / HUGGINGFACE[1], _PIXELS)
        found |= _pixels(pixels.get("image_mean"), pixels.get("image_std"))
    return found


def tower_says(section: Mapping[str, Any], file: Path, kind: str) -> dict[str, Any]:
    """What a tower's section of transformers' config says that its shapes do not; `kind` is "text"
    or "vision"."""
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
    said = {key: (section[key], sizes[ours]) for key, ours in keys.items() if key in section}
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


def _pixels(mean: Any, std: Any) -> dict[str, Any]:
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


def _heads(tower: Any) -> int:
    return tower.heads or tower.width // 64


def _huggingface_tower(tower: Any) -> dict[str, Any]:
    return {
        "hidden_size": tower.width,
        "intermediate_size": round(tower.width * tower.mlp_ratio),
        "num_hidden_layers": tower.depth,
        "num_attention_heads": _heads(tower),
        "hidden_act": HIDDEN_ACT[tower.activation],
        "layer_norm_eps": tower.eps,
        "projection_dim": tower.embed,
    }


def read_open_clip(file: Path, resnet: bool) -> dict[str, Any]:
    """What open_clip's config says: `image`, `text` (to be merged), `mean`, `std`.

    Raises:
      ValueError: it says what we do not have.
    """
    whole = read_json(file)
    config = sub_map(whole, "model_cfg", file) or whole
    vision, text = (sub_map(config, key, file) for key in ("vision_cfg", "text_cfg"))
    check_fields(config, file, {"quick_gelu": optional(FLAG)})
    check_fields(vision, f"{file}: vision_cfg", _VISION)
    check_fields(text, f"{file}: text_cfg", _TEXT)
    for name, section in (("vision_cfg", vision), ("text_cfg", text)):
        for key, value in section.items():
            if key in PLAIN and value not in PLAIN[key]:
                raise ValueError(f"{file}: {name}.{key}={shortened(value)} is not supported")
    activation = "quick_gelu" if config.get("quick_gelu") else "gelu"
    channels = vision.get("width", 768) * (32 if resnet else 1)
    found = {
        "image": {"heads": channels // vision.get("head_width", 64)},
        "text": {"heads": text.get("heads", 8), "activation": activation},
    }
    if not resnet:
        found["image"]["activation"] = activation
    if text.get("pool_type", "argmax") == "eos":
        found["text"] |= {"pool": "first_eos", "eos": text.get("eos_id", 2)}
    pixels = sub_map(whole, "preprocess_cfg", file)
    check_fields(pixels, f"{file}: preprocess_cfg", _PIXELS)
    return {**found, **_pixels(pixels.get("mean"), pixels.get("std"))}


def write_open_clip(folder: Path, model: Any, custom: bool) -> None:
    """Writes open_clip_config.json of a `CLIP`, whose text tower is apart where `custom`.

    Raises:
      ValueError: the network has what open_clip's has not.
    """
    image, text = model.image, model.text
    check_open_clip(model)
    config: dict[str, Any] = {"embed_dim": text.embed}
    if text.activation == "quick_gelu":
        config["quick_gelu"] = True
    if custom:
        config["custom_text"] = True
    if model.bias is not None:
        config["init_logit_bias"] = model.bias
    config["vision_cfg"] = {"image_size": image.image_size, "width": image.width}
    if hasattr(image, "layers"):
        channels = image.width * 32
        heads = image.heads or channels // 64
        config["vision_cfg"] |= {"layers": image.layers, "head_width": channels // heads}
    else:
        config["vision_cfg"] |= {
            "layers": image.depth,
            "head_width": image.width // _heads(image),
            "patch_size": image.patch,
            "mlp_ratio": image.mlp_ratio,
        }
    config["text_cfg"] = {
        "context_length": text.context,
        "vocab_size": text.vocab,
        "width": text.width,
        "heads": _heads(text),
        "layers": text.depth,
        "mlp_ratio": text.mlp_ratio,
    }
    if text.pool == "first_eos":
        config["text_cfg"] |= {"pool_type": "eos", "eos_id": text.eos}
    pixels = {"mean": model.mean, "std": model.std}
    write_json(folder / OPEN_CLIP, {"model_cfg": config, "preprocess_cfg": pixels})


def check_open_clip(model: CLIP) -> None:
    """Raises ValueError where open_clip's networks cannot be like this one."""
    image: Any = model.image
    if hasattr(image, "layers") and not (len(image.layers) == 4 and image.stem_pool):
        raise ValueError(
            f"open_clip's ResNets have four levels and a stem that pools; this one has layers "
            f"{image.layers} and stem_pool={image.stem_pool}"
        )
    towers: list[Any] = [t for t in (image, model.text) if hasattr(t, "activation")]
    activations = {t.activation for t in towers}
    if len(activations) > 1 or "gelu_tanh" in activations or {t.eps for t in towers} != {1e-5}:
        raise ValueError(
            "open_clip's towers share one activation, quick_gelu or gelu, and norms of eps 1e-5"
        )


def check_openai(model: Any) -> None:
    """Raises ValueError where a file of the paper's code, which holds no config, would not say
    what this network is."""
    image, text = model.image, model.text
    check_open_clip(model)
    ratios = {getattr(image, "mlp_ratio", 4.0), text.mlp_ratio}
    channels = image.width * (32 if hasattr(image, "layers") else 1)
    heads = image.heads in (None, channels // 64) and text.heads in (None, text.width // 64)
    pixels = (tuple(model.mean), tuple(model.std)) == (MEAN, STD)
    plain = text.activation == "quick_gelu" and text.pool == "argmax" and model.bias is None
    if not (heads and pixels and plain and ratios == {4.0}):
        raise ValueError(
            "layout 'openai' holds no config: it must be quick_gelu, argmax pooling, 64 channels "
            "per head, an MLP of four widths, the paper's pixel mean and std, no logit bias; use "
            "'open_clip'"
        )
