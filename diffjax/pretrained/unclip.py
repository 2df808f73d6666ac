"""A released unCLIP put together: what `interop` has read, as stages ready to draw with."""

from __future__ import annotations

from typing import Any

import jax

from diffjax.choices import build
from diffjax.data.tokenizer import Tokenizer
from diffjax.denoisers.conditions.given import GivenCondition
from diffjax.denoisers.experts import FIRST, LAST, TwoExperts
from diffjax.denoisers.model import DiffusionModel
from diffjax.denoisers.spaces import DataSpace
from diffjax.denoisers.unclip import UnCLIPInputs
from diffjax.diffusion.predictions import PREDICTIONS
from diffjax.diffusion.schedules import SCHEDULES
from diffjax.generate.unclip import DECODER, PRIOR, UPSAMPLER, UnCLIP
from diffjax.interop.parts import Part
from diffjax.interop.scheduler import Sampling
from diffjax.interop.unclip import UnCLIP as ReleasedUnCLIP
from diffjax.interop.unclip import load_unclip
from diffjax.models import build_model
from diffjax.pretrained.clip import tower_tokenizer
from diffjax.task import Variables

# What the pipeline's files leave to its callers: Karlo's own.
_OWN = {
    PRIOR: {"steps": 25, "guidance": 4.0},
    DECODER: {"steps": 25, "guidance": 8.0},
    UPSAMPLER: {"steps": 7},
}


def open_unclip(name: str) -> tuple[UnCLIP, Tokenizer]:
    """The stages of a folder of diffusers' `UnCLIPPipeline`, or of its name on the hub, and the
    tokenizer of their texts, too long ones cut.

    Raises:
      ValueError: one line: whatever `load_unclip` or `tower_tokenizer` says.
    """
    held = load_unclip(name)
    tower = build_model(**held.text.section)
    words = tower_tokenizer(held.tokenizer, tower, empty="allow", overlong="truncate")
    return unclip(held, words.eot), words


def unclip(held: ReleasedUnCLIP, eot: int) -> UnCLIP:
    """The stages of a released unCLIP; `eot` is the id of the end of a text."""
    embed = held.prior.section["out_channels"]
    small, large = (_shape(held, part) for part in (held.decoder, held.upsampler))
    weights = {FIRST: held.upsampler, LAST: held.last_upsampler}
    inputs = UnCLIPInputs(
        build_model(**held.text.section), build_model(**held.projection.section), eot
    )
    return UnCLIP(
        inputs,
        models={
            PRIOR: _model(held.prior, (embed,), held.prior_sampling),
            DECODER: _model(held.decoder, small, held.decoder_sampling),
            # The last step, which lands on the clean end, begins at t = 0.
            UPSAMPLER: _model(held.upsampler, large, held.upsampler_sampling, TwoExperts),
        },
        # Put there once: every batch would take them along.
        variables=jax.device_put(
            {
                PRIOR: Variables(held.prior.variables["params"], {}, {}),
                DECODER: Variables(held.decoder.variables["params"], {}, {}),
                UPSAMPLER: Variables(
                    {name: part.variables["params"] for name, part in weights.items()}, {}, {}
                ),
            }
        ),
        text=jax.device_put(held.text.variables),
        projection=jax.device_put(held.projection.variables),
        mean=held.prior.facts["mean"],
        std=held.prior.facts["std"],
        recipes={
            PRIOR: {**held.prior_sampling.recipe, **_OWN[PRIOR]},
            DECODER: {**held.decoder_sampling.recipe, **_OWN[DECODER]},
            UPSAMPLER: {**held.upsampler_sampling.recipe, **_OWN[UPSAMPLER]},
        },
    )


def _model(
    part: Part, shape: tuple[int, ...], sampling: Sampling, kind: type[Any] = DiffusionModel
) -> DiffusionModel:
    return kind(
        build_model(**part.section),
        DataSpace(shape),
        build(SCHEDULES, "schedule", sampling.schedule),
        build(PREDICTIONS, "prediction", sampling.prediction),
        (GivenCondition(),),
        learned_variance=sampling.recipe["variance"] == "learned",
    )


def _shape(held: ReleasedUnCLIP, part: Part) -> tuple[int, int, int]:
    """(H, W, C) of a stage's images, which are squares of the decoder's channels."""
    side, channels = part.facts["sample_size"], held.upsampler.section["out_channels"]
    return side, side, channels
