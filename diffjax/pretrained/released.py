"""Released models put together: what `interop` has read, as networks ready to draw with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from diffjax.choices import build
from diffjax.denoisers.conditions.class_label import ClassCondition
from diffjax.denoisers.conditions.image import MaskedImageCondition
from diffjax.denoisers.conditions.text import FrozenTower, TextCondition
from diffjax.denoisers.model import DiffusionModel
from diffjax.denoisers.spaces import DataSpace, LatentSpace
from diffjax.diffusion.predictions import PREDICTIONS
from diffjax.diffusion.schedules import SCHEDULES
from diffjax.generate.pipeline import Pipeline
from diffjax.interop.autoencoder import load_autoencoder
from diffjax.interop.dit import load_dit_original
from diffjax.interop.edm import edm_sampling, load_edm
from diffjax.interop.openai_unet import load_openai_unet, openai_sampling
from diffjax.interop.parts import Part, flat_params
from diffjax.interop.pipelines import Pipeline as ReleasedPipeline
from diffjax.interop.pipelines import load_pipeline
from diffjax.interop.scheduler import Sampling, own_recipe
from diffjax.interop.stable_diffusion import StableDiffusion, load_stable_diffusion
from diffjax.interop.stable_diffusion_original import load_original
from diffjax.models import build_model
from diffjax.pretrained.clip import tower_tokenizer
from diffjax.task import Variables

# What another sampler keeps of the recipe of a model that came without a scheduler.
_KEPT = ("steps", "clip", "guidance_channels")
FILES = (".safetensors", ".ckpt")  # of a Stable Diffusion in the original layout


class Family(NamedTuple):
    """Released files of one layout, which do not say how they are drawn from.

    Attributes:
      read: a file as a pipeline without a codec.
      latent: whether it draws latents, and needs the codec that they are of.
    """

    read: Callable[[str | Path], ReleasedPipeline]
    latent: bool = False


def _edm(file: str | Path) -> ReleasedPipeline:
    part = load_edm(file)
    return ReleasedPipeline(part, *edm_sampling(part))


def _dit(file: str | Path) -> ReleasedPipeline:
    """The authors' `forward_with_cfg` guides three channels of the four."""
    recipe = {"sampler": "ddpm", "variance": "learned", "spacing": "linspace", "offset": 0,
              "final": "clean", "guidance_channels": 3}  # fmt: skip
    sampling = Sampling({"type": "linear", "steps": 1000}, {"type": "eps"}, recipe)
    return ReleasedPipeline(load_dit_original(file), sampling, 250)


def _openai(release: str, file: str | Path) -> ReleasedPipeline:
    part = load_openai_unet(file, release)
    learned = part.section["out_channels"] == 2 * _channels(part)
    return ReleasedPipeline(part, *openai_sampling(release, learned))


# By release; other names are OpenAI's, see `openai_unet.PUBLISHED`.
FAMILIES: dict[str, Family] = {
    "dit": Family(_dit, latent=True),
    "edm": Family(_edm),
}


def stable_diffusion(
    held: StableDiffusion, null_ids: Sequence[int] = (), skip: int = 0
) -> tuple[DiffusionModel, Variables]:
    """The diffusion model of a Stable Diffusion and its variables; how it is drawn from is
    `make_recipe(**held.sampling.recipe, steps=..., guidance=...)`.

    Args:
      null_ids: token ids of the empty text, which stand in where no negative prompt is given.
      skip: blocks of the text tower that are left out, beside those that its files leave out.

    Raises:
      ValueError: a U-Net that is shown neither latents alone nor those of a masked image.
    """
    parts: dict[str, Any] = {"unet": held.unet, "vae": held.vae, "text": held.text}
    networks: dict[str, Any] = {k: build_model(**part.section) for k, part in parts.items()}
    height, width = sides(held.unet.facts.get("sample_size")) or (64, 64)
    codec = networks["vae"]
    shape = (height * codec.factor, width * codec.factor, codec.image_channels)
    space = LatentSpace(codec, shape)
    tower = FrozenTower(networks["text"], tuple(null_ids), held.skip + skip)
    conditions: tuple[Any, ...] = (TextCondition("text", tower),)
    channels, c = _channels(held.unet), codec.latent_channels
    if channels == 2 * c + 1:
        conditions += (MaskedImageCondition("masked_image", space),)
    elif channels != c:
        raise ValueError(
            f"a U-Net of {channels} channels draws neither from noise ({c}) nor around a mask "
            f"({2 * c + 1}): it is shown another image, which is not supported"
        )
    model = DiffusionModel(
        networks["unet"],
        space,
        build(SCHEDULES, "schedule", held.sampling.schedule),
        build(PREDICTIONS, "prediction", held.sampling.prediction),
        conditions,
    )
    frozen = {"codec": held.vae.variables, "text": held.text.variables}
    return model, Variables(held.unet.variables["params"], {}, frozen)


def stable_diffusion_pipeline(
    name: str, tokenizer: str | None = None, clip_skip: int = 1
) -> Pipeline:
    """The pipeline of a Stable Diffusion 1 or 2.

    Args:
      name: a folder of diffusers', a name on the hub, or a `.safetensors` or `.ckpt` file in the
        original layout, which comes without a tokenizer.
      tokenizer: a folder or a file, for a file.
      clip_skip: as other programs count: 1 reads the text tower to its end, 2 leaves one block out.

    Raises:
      ValueError: whatever is wrong with the files, one line.
    """
    if Path(name).suffix in FILES:
        held = load_original(name)
        if tokenizer is None:
            raise ValueError(f"{name} holds no tokenizer: give CLIP's by --tokenizer")
    else:
        held = load_stable_diffusion(name)
    depth = held.text.section["depth"] - held.skip
    if not 1 <= clip_skip <= depth:
        raise ValueError(f"--clip_skip={clip_skip} of a tower of {depth} blocks")
    tower = build_model(**held.text.section)
    words = tower_tokenizer(tokenizer or str(held.tokenizer), tower, empty="allow")
    model, variables = stable_diffusion(held, words.null_ids.tolist(), clip_skip - 1)
    sampling, recipe = held.sampling, {**held.sampling.recipe, "guidance": 7.5}
    return Pipeline(
        model,
        variables,
        recipe,
        {"model": name},
        words.encode,
        recipe_of=partial(own_recipe, sampling, recipe),
    )


def open_released(
    name: str | Path, release: str | None = None, codec: str | Path | None = None
) -> Pipeline:
    """A released model by its folder, its file or its name on the Hugging Face hub.

    Args:
      name: a folder (or `owner/name`) of diffusers' `DDPMPipeline` or `DiTPipeline`; a `.pt` of
        OpenAI's or of DiT's authors, or a safetensors of an `EDMPrecond`.
      release: which release a file is of: a name in `FAMILIES` or in `openai_unet.PUBLISHED`.
      codec: folder of the `AutoencoderKL` whose latents a file was trained on.

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
    family = FAMILIES.get(release, Family(partial(_openai, release)))
    if (codec is None) == family.latent:
        raise ValueError(
            "a codec is of what draws latents, a DiT, and these need one; this is "
            f"{release} with codec={codec}"
        )
    held = family.read(name)
    return from_pipeline(replace(held, codec=load_autoencoder(str(codec))) if codec else held)


def from_pipeline(held: ReleasedPipeline) -> Pipeline:
    """The model of a released pipeline.

    Raises:
      ValueError: its network does not draw what it is shown, or does not say its size.
    """
    part, codec = held.network, held.codec
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
    space: Any = DataSpace((*size, channels))
    frozen = {}
    if codec is not None:
        autoencoder: Any = build_model(**codec.section)
        size = tuple(side * autoencoder.factor for side in size)
        space = LatentSpace(autoencoder, (*size, autoencoder.image_channels))
        frozen = {"codec": codec.variables}
    classes, null = part.section.get("num_classes", 0), part.section.get("null_class", True)
    model = DiffusionModel(
        build_model(**part.section),
        space,
        build(SCHEDULES, "schedule", held.sampling.schedule),
        build(PREDICTIONS, "prediction", held.sampling.prediction),
        (ClassCondition("label", classes, has_null=null),) if classes else (),
        learned_variance=out == 2 * channels,
    )
    sampling, recipe = held.sampling, {**held.sampling.recipe, "steps": held.steps}
    return Pipeline(
        model,
        # Put there once: every batch would take them along.
        jax.device_put(Variables(part.variables["params"], {}, frozen)),
        recipe,
        {},
        class_names=held.class_names,
        kept=_KEPT,
        sections=_sections(part, sampling, classes, model.learned_variance),
        recipe_of=partial(own_recipe, sampling, recipe),
    )


def _sections(part: Part, sampling: Sampling, classes: int, learned: bool) -> dict[str, Any]:
    """Of a config that says the same."""
    task: dict[str, Any] = {
        "type": "diffusion",
        "schedule": sampling.schedule,
        "prediction": sampling.prediction,
        "learned_variance": learned,
    }
    if sampling.prediction["type"] == "v":
        # How such networks are trained, which the last level of a zero terminal SNR needs.
        task["weighting"] = {"type": "v_mse"}
    label = {"label": {"type": "class", "classes": classes}} if classes else {}
    return {"model": part.section, "task": task, "conditions": label}


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
