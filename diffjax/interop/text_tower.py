"""CLIP's text towers alone in and out: transformers' `CLIPTextModel` folders, of Stable Diffusion,
and, with the projection to the joint space, `CLIPTextModelWithProjection`'s, of unCLIP.

The pipeline of version 1 reads CLIP's last hidden state, that of version 2 OpenCLIP's last but one,
both after the final norm. A folder of version 2 holds a tower without its last block; an original
file holds all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffjax.bounded import shortened
from diffjax.interop.clip_configs import check_tower, tower_says
from diffjax.interop.clip_configs import huggingface_text as text_config
from diffjax.interop.clip_shapes import huggingface_text as text_sizes
from diffjax.interop.clip_tables import IGNORED, huggingface_text
from diffjax.interop.fields import WIDTH, check_fields
from diffjax.interop.files import (
    read_json,
    read_tensors,
    weights_file,
    write_json,
    write_tensors,
)
from diffjax.interop.parts import Part, emptied, fill, flat_params, parameter_shapes, spec
from diffjax.interop.sizes import axes_of, blamed_on, check_sizes
from diffjax.interop.tables import Row
from diffjax.models import build_model

# Of transformers, without and with the projection.
CLASSES = ("CLIPTextModel", "CLIPTextModelWithProjection")
KINDS = ("clip_text_model", "clip")
# Of the tables, which are those of a whole CLIP.
_TOWER = "params/text/"


def load_text(folder: str | Path, projected: bool = False) -> Part:
    """The text tower of a folder of transformers', a `CLIPTextModel`: config.json and weights.

    Args:
      folder: of the tower.
      projected: whether it has its projection, as a `CLIPTextModelWithProjection`.

    Raises:
      ValueError: as `load_unet`.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder / 'config.json'} is missing, which says what the tower is")
    config_file = folder / "config.json"
    config = read_json(config_file)
    kind = config.get("model_type")
    if kind not in KINDS:
        raise ValueError(f"{config_file} is of a {shortened(kind)} model, not of a {KINDS[0]!r}")
    check_fields(config, config_file, {"projection_dim": WIDTH})
    says = tower_says(config, config_file, "text")
    file = weights_file(folder)
    with blamed_on(file):
        weights = {k: v for k, v in read_tensors(file).items() if not IGNORED.search(k)}
        if "embeddings.token_embedding.weight" in weights:  # as transformers 5 names them
            weights = {f"text_model.{k}": v for k, v in weights.items()}
        sizes = text_sizes(weights)
        check_tower(config, sizes, config_file)
        section = {"type": "text", "embed": config.get("projection_dim", 512), **sizes, **says}
        if projected:
            section["embed"] = axes_of(weights, "text_projection.weight", 2)[0]
            said = {"projection_dim": (config.get("projection_dim", 512), section["embed"])}
            check_sizes(config_file, said)
        shapes = text_shapes(section, whole=projected)
        return fill(section, {}, weights, shapes, text_table(huggingface_text, shapes))


def save_text(folder: str | Path, part: Part, skip: int = 0, projected: bool = False) -> None:
    """Writes config.json and weights for `CLIPTextModel.from_pretrained`, without the last `skip`
    blocks and the projection, which a Stable Diffusion does not read; `projected`, with it, for
    `CLIPTextModelWithProjection.from_pretrained`.

    Raises:
      ValueError: transformers' tower cannot be like this one, or the variables are not its own.
    """
    folder = Path(folder)
    section = {**part.section, "depth": part.section["depth"] - skip}
    shapes = text_shapes(section, whole=projected)
    dropped = [f"block_{section['depth'] + i}/" for i in range(skip)]
    dropped = (*dropped, *(() if projected else ("project/",)))
    params = {k: v for k, v in flat_params(part).items() if not k.startswith(dropped)}
    config = {
        "architectures": [CLASSES[projected]],
        "model_type": KINDS[0],
        **text_config(build_model(**section)),
        "pad_token_id": 1,  # transformers' default; read by nothing here
    }
    state = emptied(params, shapes, text_table(huggingface_text, shapes))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    write_tensors(folder / "model.safetensors", state)


def text_shapes(section: Mapping[str, Any], whole: bool) -> dict[str, Any]:
    """Shapes of the section's parameters, with those of the projection if `whole`."""
    tokens = spec(1, section["context"], dtype="int32")
    return parameter_shapes(section, tokens, static={"pooled": whole})


def text_table(rows: Any, ours: Mapping[str, Any], *theirs: str) -> list[Row]:
    """A text table of `clip_tables`, for the tower by itself; `theirs` are its first arguments."""
    whole = {f"{_TOWER}{path}" for path in ours}
    table = rows(*theirs, whole)
    return [row._replace(ours=row.ours.removeprefix(_TOWER)) for row in table]
