"""Stable Diffusion 1 and 2 in and out, as whole folders of diffusers'."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffjax.interop.autoencoder import load_autoencoder, save_autoencoder
from diffjax.interop.files import read_json, write_json
from diffjax.interop.hub import fetch_parts, locate
from diffjax.interop.parts import Part, check_index
from diffjax.interop.scheduler import CLASSES as SCHEDULERS
from diffjax.interop.scheduler import Sampling, read_scheduler, write_scheduler
from diffjax.interop.text_tower import load_text, save_text
from diffjax.interop.unet import load_unet, save_unet

PIPELINES = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
)
# Part of the folder -> (library, the classes of it that we have).
PARTS = {
    "unet": ("diffusers", ("UNet2DConditionModel",)),
    "vae": ("diffusers", ("AutoencoderKL",)),
    "text_encoder": ("transformers", ("CLIPTextModel",)),
    "tokenizer": ("transformers", ("CLIPTokenizer", "CLIPTokenizerFast")),
    "scheduler": ("diffusers", tuple(SCHEDULERS)),
}
# Read by pipelines of diffusers', not here; pictures are not looked through.
_UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
# What their pipelines set in a scheduler, whatever its file says or lacks; theirs for inpainting
# leaves clip_sample alone, and would clip latents.
_FORCED = {"steps_offset": 1, "clip_sample": False}
_FORCED_INPAINT = {**_FORCED, "skip_prk_steps": True}
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json",
                   "special_tokens_map.json", "added_tokens.json")  # fmt: skip


@dataclass(frozen=True)
class StableDiffusion:
    """A whole model.

    Attributes:
      unet, vae, text: its networks.
      sampling: schedule, prediction and recipe, as config sections.
      skip: blocks of the text tower that are left out at its end; the final norm is not.
      tokenizer: the folder of its tokenizer; None where it came as one file.
    """

    unet: Part
    vae: Part
    text: Part
    sampling: Sampling
    skip: int = 0
    tokenizer: Path | None = None


def load_stable_diffusion(name: str | Path) -> StableDiffusion:
    """A folder of diffusers': model_index.json, unet, vae, text_encoder, tokenizer, scheduler; or
    one by its name `owner/name` on the Hugging Face hub.

    A safety checker is not read.

    Raises:
      ValueError: one line: a part is missing or another class's, or any error of its own loader.
    """
    folder = locate(name, _fetch, "stable-diffusion-v1-5/stable-diffusion-v1-5")
    index = folder / "model_index.json"
    if not index.is_file():
        raise ValueError(
            f"{folder} is no folder of a diffusers pipeline (no model_index.json); give its root, "
            "or the file of an original checkpoint to load_original"
        )
    said = read_json(index)
    check_index(index, said, PIPELINES, PARTS, _UNUSED, "Stable Diffusion 1 or 2")
    forced = _FORCED_INPAINT if said["_class_name"] == PIPELINES[2] else _FORCED
    missing = [name for name in PARTS if not (folder / name).is_dir()]
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)}: fetch the folder again, whole")
    return StableDiffusion(
        unet=load_unet(folder / "unet"),
        vae=load_autoencoder(folder / "vae"),
        text=load_text(folder / "text_encoder"),
        sampling=read_scheduler(folder / "scheduler", forced),
        tokenizer=folder / "tokenizer",
    )


def save_stable_diffusion(folder: str | Path, model: StableDiffusion) -> None:
    """Writes a folder for `StableDiffusionPipeline.from_pretrained`, or, where the U-Net has nine
    channels of input, for `StableDiffusionInpaintPipeline`'s.

    The text tower is written without the blocks that are skipped. A model that came as one file
    needs a tokenizer: `dataclasses.replace(model, tokenizer=folder)`.

    Raises:
      ValueError: a part that diffusers has no place for, or no tokenizer.
    """
    folder = Path(folder)
    if model.tokenizer is None:
        raise ValueError(
            "the model has no tokenizer: give the folder of CLIP's (vocab.json, merges.txt) by "
            "dataclasses.replace(model, tokenizer=folder)"
        )
    found = [f for name in TOKENIZER_FILES if (f := Path(model.tokenizer) / name).is_file()]
    if not found:
        raise ValueError(f"{model.tokenizer} holds no tokenizer (vocab.json and merges.txt)")
    save_unet(folder / "unet", model.unet)
    save_autoencoder(folder / "vae", model.vae)
    save_text(folder / "text_encoder", model.text, model.skip)
    write_scheduler(folder / "scheduler", model.sampling)
    (folder / "tokenizer").mkdir(exist_ok=True)
    for file in found:
        if file.parent.resolve() != (folder / "tokenizer").resolve():
            shutil.copyfile(file, folder / "tokenizer" / file.name)
    channels = model.unet.variables["params"]["conv_in"]["kernel"].shape[2]
    index: dict[str, Any] = {"_class_name": PIPELINES[2 if channels == 9 else 0]}
    for name, (library, classes) in PARTS.items():
        index[name] = [library, classes[0]]
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")["_class_name"]
    index["scheduler"] = ["diffusers", scheduler]
    index |= {name: [None, None] for name in _UNUSED}
    write_json(folder / "model_index.json", {**index, "requires_safety_checker": False})


def _fetch(name: str) -> Path:
    networks = {part: ("config.json",) for part in ("unet", "vae", "text_encoder")}
    small = {"tokenizer": TOKENIZER_FILES, "scheduler": ("scheduler_config.json",)}
    return fetch_parts(name, "model_index.json", {**networks, **small})
