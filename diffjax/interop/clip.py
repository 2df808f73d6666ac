"""Released CLIP weights in and out: OpenAI's, Hugging Face's and open_clip's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from diffjax.choices import unknown
from diffjax.interop.clip_configs import HUGGINGFACE, read_huggingface, write_huggingface
from diffjax.interop.clip_shapes import infer_section
from diffjax.interop.clip_tables import IGNORED, clip_table, tell_layout
from diffjax.interop.files import read_tensors, weights_file, write_tensors
from diffjax.interop.hub import fetch, locate
from diffjax.interop.open_clip_configs import (
    OPEN_CLIP,
    check_openai,
    read_open_clip,
    write_open_clip,
)
from diffjax.interop.sizes import blamed_on, check_buildable
from diffjax.interop.tables import to_ours, to_theirs
from diffjax.models import build_model

# Layout to save in -> (the file, the table of `clip_tables`).
SAVED = {
    "openai": ("model.safetensors", "openai"),
    "huggingface": ("model.safetensors", "huggingface"),
    "open_clip": ("open_clip_model.safetensors", "openai"),
    "open_clip_custom": ("open_clip_model.safetensors", "open_clip_custom"),
}


def load_clip(name: str | Path, activation: str | None = None) -> tuple[dict[str, Any], Any]:
    """A released CLIP, as the `model` section of a config and the variables of its network.

    Args:
      name: a folder (transformers' or open_clip's), a file of weights (.safetensors; .pt or .bin
        by torch, TorchScript included, read without running code), or `owner/name` on the
        Hugging Face hub.
      activation: of both towers, a key of `ACTIVATIONS`. None is what the config beside the
        weights says; without one, the layout's custom: QuickGELU in OpenAI's, GELU in
        open_clip's own (`text.` prefixes, a logit bias). open_clip's plain layout looks like
        OpenAI's: say it.

    Returns:
      The section, for `build_model(**section)`, and `{"params": ..., "batch_stats": ...}`
      (the second for ResNets alone), numpy arrays in float32.

    Raises:
      ValueError: one line: no such file or model, a damaged file, a foreign layout, tensors
        missing or unexpected, or shapes that do not fit.
    """
    configs = (*HUGGINGFACE, OPEN_CLIP)
    file = weights_file(locate(name, lambda n: fetch(n, configs), "openai/clip-vit-base-patch32"))
    weights = {k: v for k, v in read_tensors(file).items() if not IGNORED.search(k)}
    with blamed_on(file):
        layout = tell_layout(weights)
        section = infer_section(weights, layout)
        _add_config(section, file, layout, activation)
        shapes = _shapes(section)
        filled = to_ours(weights, shapes, clip_table(layout, shapes), "the file's")
    return section, unflatten_dict(filled, sep="/")


def save_clip(
    folder: str | Path, section: Mapping[str, Any], variables: Mapping[str, Any], layout: str
) -> None:
    """Writes weights, and the config files that go with them, for other libraries to load.

    Args:
      folder: is made where it is not there; files of these names in it are replaced.
      section: the `model` section of the network.
      variables: `{"params": ..., "batch_stats": ...}` of the network.
      layout: "huggingface" (for `CLIPModel.from_pretrained`), "open_clip" or "open_clip_custom"
        (a folder for open_clip's `local-dir:`), or "openai" (weights alone).

    Raises:
      ValueError: the layout has no place for such a network, or the variables are not its own.
    """
    if layout not in SAVED:
        raise unknown("layout", layout, SAVED)
    name, table = SAVED[layout]
    folder, model, shapes = Path(folder), build_model(**section), _shapes(section)
    flat = {k: np.asarray(v) for k, v in flatten_dict(dict(variables), sep="/").items()}
    wrong = [k for k in shapes if k in flat and flat[k].shape != shapes[k].shape]
    if wrong:
        there, wanted = flat[wrong[0]].shape, shapes[wrong[0]].shape
        raise ValueError(f"{wrong[0]} is {there}, but the section's network has {wanted}")
    state = to_theirs(flat, clip_table(table, shapes))
    folder.mkdir(parents=True, exist_ok=True)
    if layout == "huggingface":
        write_huggingface(folder, model)
    elif layout == "openai":
        check_openai(model)
    else:
        write_open_clip(folder, model, custom=layout == "open_clip_custom")
    write_tensors(folder / name, state)


def _add_config(section: dict[str, Any], file: Path, layout: str, activation: str | None) -> None:
    """Adds to an inferred section what the files beside the weights say."""
    resnet = section["image"]["type"] == "resnet"
    said: dict[str, Any] = {}
    if layout == "huggingface":
        said = read_huggingface(file.parent, section)
    elif (file.parent / OPEN_CLIP).is_file():
        said = read_open_clip(file.parent / OPEN_CLIP, resnet)
    else:
        own = layout == "open_clip_custom" or "bias" in section
        activation = activation or ("gelu" if own else "quick_gelu")
    for tower in ("image", "text"):
        section[tower] |= said.pop(tower, {})
        if activation and (tower == "text" or not resnet):
            section[tower]["activation"] = activation
    section |= said


def _shapes(section: Mapping[str, Any]) -> dict[str, Any]:
    """Path -> shape and dtype of every variable of the section's network."""
    check_buildable(section)
    return dict(_shapes_of(build_model(**section)))


@lru_cache(maxsize=8)
def _shapes_of(model: Any) -> dict[str, Any]:
    """Traced once: it takes a second."""
    size = model.image.image_size
    image = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    tokens = jax.ShapeDtypeStruct((1, model.text.context), np.int32)
    init = lambda image, tokens: model.init(jax.random.key(0), image, tokens)  # noqa: E731
    return flatten_dict(jax.eval_shape(init, image, tokens), sep="/")
