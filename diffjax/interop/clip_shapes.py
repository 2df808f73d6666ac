"""A CLIP's config section, read off the shapes of its weights (as the paper's code does)."""

from __future__ import annotations

import math
from typing import Any

from diffjax.interop.sizes import Weights, axes_of, count_of


def infer_section(weights: Weights, layout: str) -> dict[str, Any]:
    """`model=dict(type="clip", ...)` of a state dict in a layout of `clip_tables`.

    What shapes cannot say is left at the paper's: 64 channels per head, QuickGELU, pooling at the
    largest token. Raises ValueError where a tensor that says a size is missing.
    """
    if layout == "huggingface":
        found = _huggingface(weights)
    else:
        text = "text." if layout == "open_clip_custom" else ""
        found = {
            "image": _openai_vit(weights) if "visual.proj" in weights else _openai_resnet(weights),
            "text": openai_text(weights, text),
            "embed": axes_of(weights, f"{text}text_projection", 2)[1],
        }
    if "logit_bias" in weights:
        found["bias"] = float(weights["logit_bias"])
    return {"type": "clip", **found}


def _transformer(weights: Weights, prefix: str, fc: str) -> dict[str, Any]:
    hidden, width = axes_of(weights, f"{prefix}.0.{fc}.weight", 2)
    found = {"width": width, "depth": count_of(weights, prefix)}
    return found if hidden == 4 * width else {**found, "mlp_ratio": hidden / width}


def _patches(weights: Weights, kernel: str, positions: str) -> dict[str, Any]:
    patch = axes_of(weights, kernel, 4)[-1]
    side = math.isqrt(axes_of(weights, positions, 2)[0] - 1)
    return {"patch": patch, "image_size": patch * side}


def _sizes(weights: Weights, table: str, positions: str) -> dict[str, Any]:
    return {
        "vocab": axes_of(weights, table, 2)[0],
        "context": axes_of(weights, positions, 2)[0],
    }


def openai_text(weights: Weights, text: str) -> dict[str, Any]:
    """Sizes of the text tower of OpenAI's and open_clip's layouts; its keys begin with `text`."""
    return {
        **_transformer(weights, f"{text}transformer.resblocks", "mlp.c_fc"),
        **_sizes(weights, f"{text}token_embedding.weight", f"{text}positional_embedding"),
    }


def _openai_vit(weights: Weights) -> dict[str, Any]:
    return {
        "type": "vit",
        **_transformer(weights, "visual.transformer.resblocks", "mlp.c_fc"),
        **_patches(weights, "visual.conv1.weight", "visual.positional_embedding"),
    }


def _openai_resnet(weights: Weights) -> dict[str, Any]:
    tokens = axes_of(weights, "visual.attnpool.positional_embedding", 2)[0]
    counts = (count_of(weights, f"visual.layer{k}") for k in (1, 2, 3, 4))
    layers = tuple(n for n in counts if n)
    return {
        "type": "resnet",
        "layers": layers,
        "width": axes_of(weights, "visual.layer1.0.conv1.weight", 4)[0],
        "image_size": 2 ** (len(layers) + 1) * math.isqrt(tokens - 1),
    }


def _huggingface(weights: Weights) -> dict[str, Any]:
    image = "vision_model.embeddings"
    return {
        "image": {
            "type": "vit",
            **_transformer(weights, "vision_model.encoder.layers", "mlp.fc1"),
            **_patches(
                weights, f"{image}.patch_embedding.weight", f"{image}.position_embedding.weight"
            ),
        },
        "text": huggingface_text(weights),
        "embed": axes_of(weights, "text_projection.weight", 2)[0],
    }


def huggingface_text(weights: Weights) -> dict[str, Any]:
    """Sizes of the text tower of transformers' layout."""
    table, positions = (
        f"text_model.embeddings.{x}_embedding.weight" for x in ("token", "position")
    )
    return {
        **_transformer(weights, "text_model.encoder.layers", "mlp.fc1"),
        **_sizes(weights, table, positions),
    }
