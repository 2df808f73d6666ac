"""Released models put together: what `interop` has read, as networks ready to draw with."""

from __future__ import annotations

from typing import Any

from diffjax.choices import build
from diffjax.diffusion.predictions import PREDICTIONS
from diffjax.diffusion.schedules import SCHEDULES
from diffjax.generate.latent_model import LatentModel, Variables
from diffjax.interop.stable_diffusion import StableDiffusion
from diffjax.models import build_model


def stable_diffusion(model: StableDiffusion) -> tuple[LatentModel, Variables]:
    """The networks of a Stable Diffusion, and their values; how it is drawn from is
    `make_recipe(**model.sampling.recipe, steps=..., guidance=...)`."""
    parts: dict[str, Any] = {"unet": model.unet, "vae": model.vae, "text": model.text}
    networks: dict[str, Any] = {k: build_model(**part.section) for k, part in parts.items()}
    latent = LatentModel(
        **networks,
        schedule=build(SCHEDULES, "schedule", model.sampling.schedule),
        prediction=build(PREDICTIONS, "prediction", model.sampling.prediction),
        skip=model.skip,
    )
    return latent, {k: part.variables for k, part in parts.items()}
