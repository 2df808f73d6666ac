"""unCLIP in and out, as whole folders of diffusers' `UnCLIPPipeline` (Karlo)."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffjax.interop.clip_projection import CLASS as PROJECTION
from diffjax.interop.clip_projection import load_clip_projection, save_clip_projection
from diffjax.interop.files import read_json, write_json
from diffjax.interop.hub import fetch_parts, locate
from diffjax.interop.parts import Part, check_index, flat_params
from diffjax.interop.prior import CLASS as PRIOR
from diffjax.interop.prior import load_prior, save_prior
from diffjax.interop.scheduler import FILE, Sampling
from diffjax.interop.stable_diffusion import TOKENIZER_FILES
from diffjax.interop.text_tower import CLASSES as TOWERS
from diffjax.interop.text_tower import load_text, save_text
from diffjax.interop.unclip_decoder import CLASS as DECODER
from diffjax.interop.unclip_decoder import load_unclip_decoder, save_unclip_decoder
from diffjax.interop.unclip_scheduler import CLASS as SCHEDULER
from diffjax.interop.unclip_scheduler import read_unclip_scheduler, write_unclip_scheduler
from diffjax.interop.unet_2d import CLASS as UPSAMPLER
from diffjax.interop.unet_2d import load_unet_2d, save_unet_2d

PIPELINE = "UnCLIPPipeline"
INDEX = "model_index.json"
STAGES = ("prior", "decoder", "super_res")
# Part of the folder -> (library, the classes of it that we have).
PARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "prior": ("diffusers", (PRIOR,)),
    "decoder": ("diffusers", (DECODER,)),
    # The released folder's name of the pipeline's module. diffusers has had it under `deprecated`
    # since 0.34 and no longer finds it there by itself.
    "text_proj": ("unclip", (PROJECTION,)),
    "text_encoder": ("transformers", TOWERS[1:]),
    "tokenizer": ("transformers", ("CLIPTokenizer", "CLIPTokenizerFast")),
    "super_res_first": ("diffusers", (UPSAMPLER,)),
    "super_res_last": ("diffusers", (UPSAMPLER,)),
    **{f"{stage}_scheduler": ("diffusers", (SCHEDULER,)) for stage in STAGES},
}


@dataclass(frozen=True)
class UnCLIP:
    """A whole model.

    Attributes:
      text: the text tower, with its projection.
      prior: text to image embedding; its facts are the embeddings' `mean` and `std`.
      projection: what the decoder is conditioned by.
      decoder: embedding to small image.
      upsampler, last_upsampler: small image to large, in all steps but the last, and in it.
      prior_sampling, decoder_sampling, upsampler_sampling: schedule, prediction and recipe.
      tokenizer: the folder of its tokenizer.
    """

    text: Part
    prior: Part
    projection: Part
    decoder: Part
    upsampler: Part
    last_upsampler: Part
    prior_sampling: Sampling
    decoder_sampling: Sampling
    upsampler_sampling: Sampling
    tokenizer: Path


def load_unclip(name: str | Path) -> UnCLIP:
    """A folder of diffusers', or one by its name `owner/name` on the Hugging Face hub.

    Raises:
      ValueError: one line: a part is missing or another class's, parts that do not fit each other,
        or any error of a part's own loader.
    """
    folder = locate(name, _fetch, "kakaobrain/karlo-v1-alpha")
    index = folder / INDEX
    if not index.is_file():
        raise ValueError(f"{folder} is no folder of a diffusers pipeline (no {INDEX})")
    check_index(index, read_json(index), (PIPELINE,), PARTS, (), "unCLIP")
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)}: fetch the folder again, whole")
    prior, decoder, upsampler = (
        read_unclip_scheduler(folder / f"{stage}_scheduler") for stage in STAGES
    )
    model = UnCLIP(
        load_text(folder / "text_encoder", projected=True),
        load_prior(folder / "prior"),
        load_clip_projection(folder / "text_proj"),
        load_unclip_decoder(folder / "decoder"),
        load_unet_2d(folder / "super_res_first"),
        load_unet_2d(folder / "super_res_last"),
        prior,
        decoder,
        upsampler,
        folder / "tokenizer",
    )
    check_stages(model)
    return model


def save_unclip(folder: str | Path, model: UnCLIP) -> None:
    """Writes a folder for `UnCLIPPipeline.from_pretrained`.

    Raises:
      ValueError: a part that diffusers has no place for, parts that do not fit each other, or no
        tokenizer.
    """
    folder = Path(folder)
    check_stages(model)
    found = [f for name in TOKENIZER_FILES if (f := Path(model.tokenizer) / name).is_file()]
    if not found:
        raise ValueError(f"{model.tokenizer} holds no tokenizer (vocab.json and merges.txt)")
    save_text(folder / "text_encoder", model.text, projected=True)
    save_prior(folder / "prior", model.prior)
    save_clip_projection(folder / "text_proj", model.projection)
    save_unclip_decoder(folder / "decoder", model.decoder)
    save_unet_2d(folder / "super_res_first", model.upsampler)
    save_unet_2d(folder / "super_res_last", model.last_upsampler)
    samplings = (model.prior_sampling, model.decoder_sampling, model.upsampler_sampling)
    for stage, sampling in zip(STAGES, samplings, strict=True):
        write_unclip_scheduler(folder / f"{stage}_scheduler", sampling)
    (folder / "tokenizer").mkdir(exist_ok=True)
    for file in found:
        if file.parent.resolve() != (folder / "tokenizer").resolve():
            shutil.copyfile(file, folder / "tokenizer" / file.name)
    parts = {name: [library, classes[0]] for name, (library, classes) in PARTS.items()}
    write_json(folder / INDEX, {"_class_name": PIPELINE, **parts})


def check_stages(model: UnCLIP) -> None:
    """Refuses stages that do not fit each other.

    Raises:
      ValueError: the first pair, with the number that differs.
    """
    embed = model.prior.section["out_channels"]
    decoder, upsampler, last = model.decoder, model.upsampler, model.last_upsampler
    context = flat_params(decoder)["mid_0/attention/context_kv/kernel"].shape[0]
    small, large = (part.facts.get("sample_size") for part in (decoder, upsampler))
    channels, shown = (_channels(part) for part in (decoder, upsampler))
    learned = model.decoder_sampling.recipe["variance"] == "learned"
    pairs: dict[str, tuple[Any, Any]] = {
        "the prior's embedding and the text tower's": (embed, model.text.section["embed"]),
        "the prior's embedding and the text tower's features": (embed, model.text.section["width"]),
        "the prior's embedding and its text's": (embed, model.prior.section["vector_dim"]),
        "the prior's context and the text tower's": (
            model.prior.section["context_length"], model.text.section["context"]
        ),
        "the prior's embedding and the projection's": (
            embed, flat_params(model.projection)["null"].shape[0]
        ),
        "the projection's vector and the decoder's": (
            model.projection.section["vector_width"], decoder.section["vector_dim"]
        ),
        "the projection's context and the decoder's": (
            model.projection.section["context_width"], context
        ),
        "the decoder's channels and those it gives": (
            channels * (1 + learned), decoder.section["out_channels"]
        ),
        "twice the decoder's channels and the upsampler's": (2 * channels, shown),
        "the decoder's channels and those the upsampler gives": (
            channels, upsampler.section["out_channels"]
        ),
        "the two upsamplers' networks": (upsampler.section, last.section),
        "the two upsamplers' sizes": (large, last.facts.get("sample_size")),
        "the two upsamplers' channels": (shown, _channels(last)),
    }  # fmt: skip
    for what, (one, other) in pairs.items():
        if one != other:
            raise ValueError(f"stages that do not fit: {what} are {one} and {other}")
    if not isinstance(small, int) or not isinstance(large, int):
        raise ValueError("the decoder's or an upsampler's config.json does not say its sample_size")
    if small > large:
        raise ValueError(
            f"stages that do not fit: the upsampler's images, of {large} pixels, are below the "
            f"decoder's, of {small}"
        )


def _channels(part: Part) -> int:
    """Of the images that a U-Net is shown."""
    return flat_params(part)["conv_in/kernel"].shape[2]


def _fetch(name: str) -> Path:
    scheduler = tuple(part for part in PARTS if part.endswith("_scheduler"))
    networks = {part: ("config.json",) for part in PARTS if part not in (*scheduler, "tokenizer")}
    return fetch_parts(
        name, INDEX, {**networks, "tokenizer": TOKENIZER_FILES, **dict.fromkeys(scheduler, (FILE,))}
    )
