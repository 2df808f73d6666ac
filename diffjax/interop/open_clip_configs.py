"""A CLIP's config section from and to open_clip's JSON file, or none, beside its weights.

Only what the shapes of the weights cannot say is read, see `clip_configs`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffjax.bounded import shortened
from diffjax.interop.clip_configs import PIXELS, heads_of, pixels_said
from diffjax.interop.fields import FLAG, WIDTH, WORD, check_fields, optional, sub_map, whole
from diffjax.interop.files import read_json, write_json
from diffjax.models.clip import CLIP, MEAN, STD

OPEN_CLIP = "open_clip_config.json"
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
_VISION = {"width": WIDTH, "head_width": WIDTH}
_TEXT = {"heads": WIDTH, "pool_type": WORD, "eos_id": whole(0, 10_000_000)}


def read_open_clip(file: Path, resnet: bool) -> dict[str, Any]:
    """The settings in open_clip's config: `image`, `text` (to be merged), `mean`, `std`.

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
    check_fields(pixels, f"{file}: preprocess_cfg", PIXELS)
    return {**found, **pixels_said(pixels.get("mean"), pixels.get("std"))}


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
            "head_width": image.width // heads_of(image),
            "patch_size": image.patch,
            "mlp_ratio": image.mlp_ratio,
        }
    config["text_cfg"] = {
        "context_length": text.context,
        "vocab_size": text.vocab,
        "width": text.width,
        "heads": heads_of(text),
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
