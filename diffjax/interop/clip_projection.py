"""The projections of unCLIP's decoder in and out: diffusers' `UnCLIPTextProjModel` folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffjax.interop.fields import DEPTH, WIDTH, check_fields
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
from diffjax.interop.sizes import axes_of, blamed_on, check_sizes
from diffjax.interop.tables import Row, layer, norm
from diffjax.interop.unet import WEIGHTS

CLASS = "UnCLIPTextProjModel"
READ = {
    "clip_extra_context_tokens": DEPTH,
    "clip_embeddings_dim": WIDTH,
    "time_embed_dim": WIDTH,
    "cross_attention_dim": WIDTH,
}
TABLE = [
    Row("null", ("learned_classifier_free_guidance_embeddings",), "vector"),
    *layer("text_vector", "embedding_proj", "dense"),
    *layer("image_vector", "clip_image_embeddings_project_to_time_embeddings", "dense"),
    *layer("image_tokens", "clip_extra_context_tokens_proj", "dense"),
    *layer("context", "encoder_hidden_states_proj", "dense"),
    *norm("context_norm", "text_encoder_hidden_states_norm"),
]


def load_clip_projection(folder: str | Path) -> Part:
    """The projections of a folder: config.json and weights.

    Raises:
      ValueError: as `load_unet`.
    """
    folder = Path(folder)
    config_file = folder / "config.json"
    config = read_config(config_file, (CLASS,))
    section = _section(config, config_file)
    file = weights_file(folder)
    with blamed_on(file):
        weights = read_tensors(file)
        vector, embed = axes_of(weights, "embedding_proj.weight", 2)
        width = axes_of(weights, "encoder_hidden_states_proj.weight", 2)[0]
        wide = axes_of(weights, "clip_extra_context_tokens_proj.weight", 2)[0]
        sizes = {
            "clip_embeddings_dim": (config.get("clip_embeddings_dim", 768), embed),
            "time_embed_dim": (section["vector_width"], vector),
            "cross_attention_dim": (section["context_width"], width),
            "clip_extra_context_tokens": (section["tokens"], wide // width),
        }
        check_sizes(config_file, sizes)
        return fill(section, {}, weights, _shapes(section, embed), TABLE)


def save_clip_projection(folder: str | Path, part: Part) -> None:
    """Writes config.json and weights for `UnCLIPTextProjModel.from_pretrained`.

    Raises:
      ValueError: diffusers' network cannot be like this one, or the variables are not its own.
    """
    folder, section, params = Path(folder), part.section, flat_params(part)
    if section.get("type") != "clip_projection" or "null" not in params:
        raise ValueError(f"diffusers' {CLASS} is a clip_projection; this network is not one")
    embed, found = params["null"].shape[0], params["context/kernel"].shape[0]
    if found != embed:
        raise ValueError(
            f"diffusers' {CLASS} reads text tokens of the embeddings' width, {embed}, but this "
            f"one's are of {found}"
        )
    config = {
        "_class_name": CLASS,
        "clip_extra_context_tokens": section.get("tokens", 4),
        "clip_embeddings_dim": embed,
        "time_embed_dim": section["vector_width"],
        "cross_attention_dim": section["context_width"],
    }
    check_same_network(section, _section(config, folder / "config.json"), f"diffusers' {CLASS}")
    state = emptied(params, _shapes(section, embed), TABLE)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    write_tensors(folder / WEIGHTS, state)


def _shapes(section: Mapping[str, Any], embed: int) -> dict[str, Any]:
    one = spec(1, embed)
    return parameter_shapes(section, one, one, spec(1, 1, embed))


def _section(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The section that a config.json describes."""
    check_plain(config, file, READ, {})
    check_fields(config, file, READ)
    missing = [k for k in ("time_embed_dim", "cross_attention_dim") if k not in config]
    if missing:
        raise ValueError(f"{file} does not say {missing[0]}")
    return {
        "type": "clip_projection",
        "vector_width": config["time_embed_dim"],
        "context_width": config["cross_attention_dim"],
        "tokens": config.get("clip_extra_context_tokens", 4),
    }
