"""Diffusion without text in and out, as whole folders of diffusers': `DDPMPipeline`, `DiTPipeline`.

A folder holds a folder for each part; those of google/ddpm-* hold the files of both parts, of the
U-Net and the scheduler, at their root.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffjax.choices import pick
from diffjax.interop.autoencoder import load_autoencoder, save_autoencoder
from diffjax.interop.dit import CLASS as DIT
from diffjax.interop.dit import OLD_CLASS, load_dit, save_dit
from diffjax.interop.fields import sub_map
from diffjax.interop.files import read_json, write_json
from diffjax.interop.hub import fetch, fetch_parts, holds, is_hub_name, locate
from diffjax.interop.parts import Part, check_index
from diffjax.interop.scheduler import CLASSES as SCHEDULERS
from diffjax.interop.scheduler import Sampling, read_scheduler, sampling_of, write_scheduler
from diffjax.interop.unet_2d import CLASS as UNET
from diffjax.interop.unet_2d import load_unet_2d, save_unet_2d

INDEX, SCHEDULER = "model_index.json", "scheduler_config.json"
_SCHEDULER = {"scheduler": ("diffusers", tuple(SCHEDULERS))}
# The pipelines that we have -> part -> (library, the classes of it that we have).
_PIXELS = {"unet": ("diffusers", (UNET,)), **_SCHEDULER}
_LATENTS = {
    "transformer": ("diffusers", (DIT, OLD_CLASS)),
    "vae": ("diffusers", ("AutoencoderKL",)),
    **_SCHEDULER,
}
PIPELINES: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "DDPMPipeline": _PIXELS,
    "DDIMPipeline": _PIXELS,
    "DiTPipeline": _LATENTS,
}
# Sampler -> the pipeline that draws with it as it is; another would not scale what it is given.
_BY_SAMPLER = {"ddpm": "DDPMPipeline", "ddim": "DDIMPipeline"}
# Steps of the papers, where the scheduler does not visit every level.
_STEPS = {"DiTPipeline": 250}


@dataclass(frozen=True)
class Pipeline:
    """A whole model.

    Attributes:
      network: the denoiser, of pixels or of a codec's latents.
      sampling: schedule, prediction and recipe, as config sections.
      steps: of the paper's sampling.
      codec: the autoencoder of the latents; None for pixels.
      class_names: one per class, or empty.
    """

    network: Part
    sampling: Sampling
    steps: int
    codec: Part | None = None
    class_names: tuple[str, ...] = ()


def is_pipeline(name: str | Path) -> bool:
    """Whether a folder, or `owner/name` on the hub, is one that `load_pipeline` reads, as far as
    its index says; a file is none."""
    folder = Path(name)
    if folder.is_file():
        return False
    if not folder.is_dir():
        if not is_hub_name(name) or not holds(str(name), INDEX):
            return is_hub_name(name) and holds(str(name), SCHEDULER)
        folder = fetch_parts(str(name), INDEX, {})
    if (folder / INDEX).is_file():
        return read_json(folder / INDEX).get("_class_name") in PIPELINES
    return (folder / SCHEDULER).is_file()


def load_pipeline(name: str | Path) -> Pipeline:
    """A folder of diffusers', or one by its name `owner/name` on the Hugging Face hub.

    A folder of a U-Net and a scheduler without an index is one of a `DDPMPipeline`.

    Raises:
      ValueError: one line: another pipeline, a part that is missing or another class's, or any
        error of its own loader.
    """
    folder = locate(name, _fetch, "google/ddpm-cifar10-32")
    file = folder / INDEX
    index: dict[str, Any] = {"_class_name": "DDPMPipeline"}
    if file.is_file():
        index = read_json(file)
        parts = PIPELINES.get(str(index.get("_class_name")), _PIXELS)
        check_index(file, index, PIPELINES, parts, ("id2label",), "diffusion without text")
    elif not (folder / SCHEDULER).is_file():
        raise ValueError(
            f"{folder} is no folder of a diffusers pipeline (no {INDEX}), nor of a U-Net and its "
            f"{SCHEDULER}"
        )
    sampling = read_scheduler(_place(folder, "scheduler", SCHEDULER))
    kind = index["_class_name"]
    if kind == "DDIMPipeline":
        sampling = sampling_of({**sampling.said, "_class_name": "DDIMScheduler"})
    every = sampling.schedule["steps"] if sampling.recipe["sampler"] == "ddpm" else 50
    steps = _STEPS.get(kind, every)
    if kind != "DiTPipeline":
        return Pipeline(load_unet_2d(_place(folder, "unet", "config.json")), sampling, steps)
    codec = load_autoencoder(_place(folder, "vae", "config.json"))
    network = load_dit(_place(folder, "transformer", "config.json"))
    labels = sub_map(index, "id2label", file)
    if not all(k.isdecimal() and len(k) < 9 and isinstance(v, str) for k, v in labels.items()):
        raise ValueError(f"{file}: id2label must give the names of classes by their numbers")
    names = tuple(labels[k] for k in sorted(labels, key=int))
    return Pipeline(network, sampling, steps, codec, names)


def save_pipeline(folder: str | Path, pipeline: Pipeline) -> None:
    """Writes a folder for `DiTPipeline.from_pretrained`, or for a U-Net's `DDPMPipeline` or
    `DDIMPipeline`, whichever draws with its sampler.

    Raises:
      ValueError: a part that diffusers has no place for.
    """
    folder, sampler = Path(folder), pipeline.sampling.recipe["sampler"]
    index: dict[str, Any] = {"_class_name": "DiTPipeline"}
    saved: dict[str, tuple[Callable[[Path, Part], None], Part]]
    if pipeline.codec is not None:
        saved = {"transformer": (save_dit, pipeline.network),
                 "vae": (save_autoencoder, pipeline.codec)}  # fmt: skip
        if pipeline.class_names:
            index["id2label"] = {str(i): n for i, n in enumerate(pipeline.class_names)}
    else:
        saved = {"unet": (save_unet_2d, pipeline.network)}
        kind = pick("sampler for a pipeline of diffusers':", sampler, _BY_SAMPLER)
        index["_class_name"] = _BY_SAMPLER[kind]
    for part, (save, network) in saved.items():
        save(folder / part, network)
        library, classes = PIPELINES[index["_class_name"]][part]
        index[part] = [library, classes[0]]
    write_scheduler(folder / "scheduler", pipeline.sampling)
    kind = read_json(folder / "scheduler" / SCHEDULER)["_class_name"]
    write_json(folder / INDEX, {**index, "scheduler": ["diffusers", kind]})


def _place(folder: Path, part: str, file: str) -> Path:
    """The path of a part's `file`: in its own folder, or at the root.

    Raises:
      ValueError: in neither.
    """
    for place in (folder / part, folder):
        if (place / file).is_file():
            return place
    raise ValueError(f"{folder} lacks {part}/{file}: fetch the folder again, whole")


def _fetch(name: str) -> Path:
    parts: Mapping[str, Sequence[str]] = {
        **{part: ("config.json",) for part in ("unet", "transformer", "vae")},
        "scheduler": (SCHEDULER,),
    }
    folder = fetch_parts(name, INDEX, parts)
    if not any((folder / part / "config.json").is_file() for part in parts):
        fetch(name, ("config.json", SCHEDULER))
    return folder
