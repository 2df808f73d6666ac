"""A released GLIDE put together: what `interop` has read, as stages ready to draw with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from diffjax.choices import build
from diffjax.data.tokenizer_fast import FastTokenizer
from diffjax.data.tokenizer_gpt2 import load_gpt2_tokenizer
from diffjax.denoisers.conditions.base import PARAMS, Condition
from diffjax.denoisers.conditions.image import ImageCondition, MaskedImageCondition
from diffjax.denoisers.conditions.learned_text import LearnedTextCondition
from diffjax.denoisers.model import DiffusionModel
from diffjax.denoisers.spaces import DataSpace
from diffjax.diffusion.predictions import PREDICTIONS
from diffjax.diffusion.schedules import SCHEDULES
from diffjax.generate.glide import BASE, UPSAMPLER, Glide
from diffjax.interop.glide import COLOURS, GlideNetworks, load_glide
from diffjax.models import build_model
from diffjax.task import Variables

CAPTION = "caption"
# Stage -> the stem of OpenAI's file of it, and of the one that inpaints.
FILES = {BASE: ("base", "base_inpaint"), UPSAMPLER: ("upsample", "upsample_inpaint")}


def open_glide(folder: str | Path, inpaints: bool = False) -> tuple[Glide, FastTokenizer]:
    """The stages of a folder that holds OpenAI's `base.pt` and `upsample.pt`, or (`inpaints`)
    `base_inpaint.pt` and `upsample_inpaint.pt`, each perhaps as `.safetensors`, and the tokenizer
    of their texts, `encoder.json` and `vocab.bpe`.

    Raises:
      ValueError: one line: a file is missing, or whatever `load_glide` or `glide` says.
    """
    folder = Path(folder)
    held = {stage: load_glide(_file(folder, stems[inpaints])) for stage, stems in FILES.items()}
    words = load_gpt2_tokenizer(folder, held[BASE].text.section["context"])
    return glide(held[BASE], held[UPSAMPLER], words), words


def glide(base: GlideNetworks, upsampler: GlideNetworks, words: FastTokenizer) -> Glide:
    """The stages of two released networks.

    Raises:
      ValueError: networks that do not fit each other, or a tokenizer that is not theirs.
    """
    held = {BASE: base, UPSAMPLER: upsampler}
    _check_stages(held, words)
    return Glide(
        {stage: _model(one, words) for stage, one in held.items()},
        # Put there once: every batch would take them along.
        jax.device_put({stage: _variables(one) for stage, one in held.items()}),
        {stage: one.sampling.recipe for stage, one in held.items()},
    )


def _file(folder: Path, stem: str) -> Path:
    for suffix in (".pt", ".safetensors"):
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    raise ValueError(f"{folder} holds no {stem}.pt (or {stem}.safetensors) of GLIDE: put it there")


def _check_stages(held: dict[str, GlideNetworks], words: FastTokenizer) -> None:
    """Raises ValueError for the first pair that does not fit."""
    base, upsampler = held[BASE], held[UPSAMPLER]
    if base.low_res or not upsampler.low_res:
        raise ValueError(
            "stages that do not fit: the base sees a small image, or the upsampler none"
        )
    small, large = (one.unet.facts["sample_size"] for one in (base, upsampler))
    if small > large:
        raise ValueError(
            f"stages that do not fit: the upsampler's images, of {large} pixels, are below the "
            f"base's, of {small}"
        )
    for stage, one in held.items():
        text = one.text.section
        said, found = (text["vocab"], text["context"]), (words.vocab_size, words.context)
        if said != found or text["end"] not in (None, words.pad):
            raise ValueError(
                f"the {stage} reads {said[0]:,} tokens, {said[1]} in a row, but the tokenizer has "
                f"{found[0]:,} and {found[1]}: it is another model's"
            )


def _model(one: GlideNetworks, words: FastTokenizer) -> DiffusionModel:
    side = one.unet.facts["sample_size"]
    space = DataSpace((side, side, COLOURS))
    encoder, null_ids = build_model(**one.text.section), tuple(words.null_ids.tolist())
    conditions: list[Condition] = [LearnedTextCondition(CAPTION, encoder, null_ids)]
    # In the order in which the network sees their channels.
    if one.inpaints:
        conditions.append(MaskedImageCondition("masked_image", space, layout="glide"))
    if one.low_res:
        conditions.append(ImageCondition("low_res", has_null=False))
    sampling = one.sampling
    return DiffusionModel(
        build_model(**one.unet.section),
        space,
        build(SCHEDULES, "schedule", sampling.schedule),
        build(PREDICTIONS, "prediction", sampling.prediction),
        tuple(conditions),
        learned_variance=True,
    )


def _variables(one: GlideNetworks) -> Variables:
    own: dict[str, Any] = {CAPTION: one.text.variables["params"]}
    return Variables({**one.unet.variables["params"], PARAMS: own}, {}, {})
