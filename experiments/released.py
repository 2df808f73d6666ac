"""Released models put together: what `interop` has read, as networks ready to draw with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffjax.choices import build
from diffjax.diffusion.predictions import PREDICTIONS
from diffjax.diffusion.recipes import recipe_over
from diffjax.diffusion.schedules import SCHEDULES
from diffjax.generate.latent_model import LatentModel
from diffjax.generate.latent_model import Variables as LatentVariables
from diffjax.interop.autoencoder import load_autoencoder
from diffjax.interop.dit import load_dit_original
from diffjax.interop.edm import edm_sampling, load_edm
from diffjax.interop.openai_unet import load_openai_unet, openai_sampling
from diffjax.interop.parts import Part, flat_params
from diffjax.interop.pipelines import Pipeline, load_pipeline
from diffjax.interop.scheduler import Sampling, own_recipe
from diffjax.interop.stable_diffusion import StableDiffusion
from diffjax.models import build_model
from diffjax.tasks import make_task
from diffjax.tasks.base import Variables
from diffjax.tasks.diffusion import DiffusionTask
from diffjax.tasks.latents import Latents

# What another sampler keeps of the recipe of a model that came without a scheduler.
_KEPT = ("steps", "clip", "guidance_channels")
# Releases that a file does not tell from others by itself, beside `openai_unet.PUBLISHED`.
DIT, EDM = "dit", "edm"


def stable_diffusion(model: StableDiffusion) -> tuple[LatentModel, LatentVariables]:
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


@dataclass(frozen=True, eq=False)
class Released:
    """A released model without text, as evaluators take it: `predict_fns()`, `nfe`, `variables`.

    Attributes:
      task: its diffusion, of pixels or of a codec's latents.
      variables: for the predict functions.
      recipe: how it is drawn from where the caller says nothing else: its scheduler's or its
        paper's options of `make_recipe`, steps among them.
      sections: `model` and `task` of a config that says the same.
      class_names: one per class, or empty.
      sampling: what another sampler reads its recipe from; None where no file says it.
    """

    task: DiffusionTask
    variables: Variables
    recipe: Mapping[str, Any]
    sections: Mapping[str, Any]
    class_names: tuple[str, ...] = ()
    sampling: Sampling | None = None

    @property
    def num_classes(self) -> int:
        """Of the classes that it draws by; 0 for none."""
        return self.task.num_classes

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, C) of what it draws."""
        return self.task.image_shape

    def full(self, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """`recipe` over the model's own; what is one sampler's alone does not reach another."""
        own = self.recipe
        if self.sampling is not None:
            own = own_recipe(self.sampling, own, recipe.get("sampler"))
        return recipe_over(own, recipe, _KEPT)

    def nfe(self, **recipe: Any) -> dict[str, Any]:
        """The protocol of a recipe, see `DiffusionTask.nfe`."""
        return self.task.nfe(**self.full(recipe))

    def noise_levels(self, which: str = "states", **recipe: Any) -> np.ndarray:
        """See `DiffusionTask.noise_levels`."""
        return self.task.noise_levels(which, **self.full(recipe))

    def predict_fns(self) -> Mapping[str, Callable[..., Any]]:
        """The task's, drawing by the model's own recipe."""
        fns = self.task.predict_fns()
        drawn = {name: partial(_by_recipe, self, fns[name]) for name in ("sample", "trajectory")}
        return {**fns, **drawn}


def _by_recipe(
    model: Released,
    fn: Callable[..., Any],
    variables: Variables,
    seed: Any,
    index: Any,
    label: Any = None,
    negative: Any = None,
    **recipe: Any,
) -> Any:
    return fn(variables, seed, index, label, negative, **model.full(recipe))


def open_released(
    name: str | Path, release: str | None = None, codec: str | Path | None = None
) -> Released:
    """A released model by its folder, its file or its name on the Hugging Face hub.

    Args:
      name: a folder (or `owner/name`) of diffusers' `DDPMPipeline` or `DiTPipeline`; a `.pt` of
        OpenAI's or of DiT's authors, or a safetensors of an `EDMPrecond`.
      release: which release a file is of: "dit", "edm", or a name in `openai_unet.PUBLISHED`.
      codec: folder of the `AutoencoderKL` whose latents a DiT file was trained on.

    Raises:
      ValueError: one line: nothing there, or whatever its loader says.
    """
    if not Path(name).is_file():
        if release is not None or codec is not None:
            raise ValueError(f"{name} is a folder, which says what it is: leave the release out")
        return from_pipeline(load_pipeline(name))
    if release is None:
        raise ValueError(
            f"{name} is a file, which does not say how it is drawn from: say which release it is "
            "of (dit, edm, adm_256, iddpm_cifar10, ...)"
        )
    if (codec is None) == (release == DIT):
        raise ValueError(
            f"a codec is a DiT's, and a DiT needs one; this is {release} with codec={codec}"
        )
    if release == DIT:
        # The authors' `forward_with_cfg` guides three channels of the four.
        recipe = {"sampler": "ddpm", "variance": "learned", "spacing": "linspace", "offset": 0,
                  "final": "clean", "guidance_channels": 3}  # fmt: skip
        sampling = Sampling({"type": "linear", "steps": 1000}, {"type": "eps"}, recipe)
        part = load_dit_original(name)
        return from_pipeline(Pipeline(part, sampling, 250, load_autoencoder(str(codec))))
    if release == EDM:
        part = load_edm(name)
        return from_pipeline(Pipeline(part, *edm_sampling(part)))
    part = load_openai_unet(name, release)
    learned = part.section["out_channels"] == 2 * _channels(part)
    return from_pipeline(Pipeline(part, *openai_sampling(release, learned)))


def from_pipeline(pipeline: Pipeline) -> Released:
    """The model of a released pipeline.

    Raises:
      ValueError: its network does not draw what it is shown, or does not say its size.
    """
    part, codec = pipeline.network, pipeline.codec
    channels, out = _channels(part), part.section["out_channels"]
    size = sides(part.facts.get("sample_size"))
    if out not in (channels, 2 * channels):
        raise ValueError(
            f"the network takes {channels} channels and gives {out}: it is shown another image "
            "(an upsampler?), which is not supported"
        )
    if size is None:
        raise ValueError("the network's config.json does not say its sample_size")
    if codec is not None and codec.section["latent_channels"] != channels:
        raise ValueError(
            f"the network draws {channels} channels, but the codec's latents have "
            f"{codec.section['latent_channels']}"
        )
    classes, null = part.section.get("num_classes", 0), part.section.get("null_class", True)
    task: dict[str, Any] = {
        "type": "diffusion",
        "schedule": pipeline.sampling.schedule,
        "prediction": pipeline.sampling.prediction,
        "num_classes": classes,
        # The papers' share: that there was one is what guidance asks.
        "label_drop": 0.1 if classes and null else 0.0,
        "learned_variance": out == 2 * channels,
    }
    if pipeline.sampling.prediction["type"] == "v":
        # How such networks are trained, which the last level of a zero terminal SNR needs.
        task["weighting"] = {"type": "v_mse"}
    towers, frozen = {}, {}
    if codec is not None:
        autoencoder: Any = build_model(**codec.section)
        size = tuple(side * autoencoder.factor for side in size)
        channels = autoencoder.image_channels
        towers, frozen = {"latents": Latents(autoencoder)}, {"codec": codec.variables}
    network = build_model(**part.section)
    made: Any = make_task(task, network, (*size, channels), classes, towers)
    return Released(
        task=made,
        # Put there once: every batch would take them along.
        variables=jax.device_put(Variables(part.variables["params"], {}, frozen)),
        recipe={**pipeline.sampling.recipe, "steps": pipeline.steps},
        sections={"model": part.section, "task": task},
        class_names=pipeline.class_names,
        sampling=pipeline.sampling,
    )


def sides(sample_size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """(height, width) of a `sample_size`, which is one number for squares; None where there is
    none."""
    if sample_size is None:
        return None
    height, width = (
        (sample_size, sample_size) if isinstance(sample_size, int) else tuple(sample_size)
    )
    return height, width


def _channels(part: Part) -> int:
    """Of the images that a network is shown."""
    params = flat_params(part)
    if "conv_in/kernel" in params:
        return params["conv_in/kernel"].shape[2]
    return params["patch_in/kernel"].shape[0] // part.section["patch"] ** 2
