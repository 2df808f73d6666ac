"""A frozen autoencoder for latent diffusion: of a run of ours, or of a released model."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.batches import map_batches
from diffjax.choices import construct
from diffjax.fingerprints import fingerprint, short_hash, to_host
from diffjax.interop.autoencoder import load_autoencoder
from diffjax.interop.hub import locate_autoencoder
from diffjax.models import build_model
from diffjax.models.autoencoder import Autoencoder, Posterior
from diffjax.pretrained.reference import Reference
from diffjax.runs import TrainedRun
from diffjax.runs.records import read_json
from diffjax.tasks.autoencoder import AutoencoderTask
from diffjax.train.writer import replace_file

SCALES = "latent_scale.json"
IMAGES, BATCH = 2048, 64


@dataclass(frozen=True, eq=False)
class Codec:
    """Attributes:
    network: `scale` and `shift` are those of these weights' latents.
    variables: what `network.apply` takes, arrays on the host.
    fingerprint: equal for codecs that give the same images the same latents, and back.
    """

    network: Autoencoder
    variables: Mapping[str, Any]
    fingerprint: str


@dataclass(frozen=True)
class CodecConfig(Reference):
    """Config section `codec`: the run of an autoencoder (see `Reference`), or a released model.

    Attributes:
      model: a folder of diffusers', of a pipeline or of its `vae` alone, or the name of either on
        the hub.
    """

    model: str | None = None
    section: ClassVar[str] = "codec"
    released: ClassVar[tuple[str, ...]] = ("model",)


def load_codec(reference: Mapping[str, Any]) -> Codec:
    """The codec of a config section, see `CodecConfig`.

    The scale and the shift of a run's latents are those in its workdir, see `keep_scale`; those of
    a released model are its own.

    Raises:
      ValueError: no such run, a run of another task, one whose latents nobody has measured, or
        whatever is wrong with released weights.
    """
    choices: CodecConfig = construct(CodecConfig, "codec", reference)
    if choices.model is not None:
        part = load_autoencoder(locate_autoencoder(choices.model))
        return _codec(build_model(**part.section), part.variables)
    run = choices.open()
    network, variables = _autoencoder(run)
    scale = known_scale(run.workdir, variables)
    if scale is None:
        raise ValueError(
            f"{run.workdir / SCALES} has no scale of these weights' latents: name its config in "
            "codec.config, so that they are measured"
        )
    return _codec(network.clone(**scale), variables)


def _autoencoder(run: TrainedRun) -> tuple[Autoencoder, dict[str, Any]]:
    """The network of a run and its variables, on the host."""
    if not isinstance(run.task, AutoencoderTask):
        raise ValueError(f"{run.workdir} is a run of task {run.kind!r}; a codec is 'autoencoder'")
    held = run.task.codec_variables(run.variables)
    return run.task.network, jax.tree.map(to_host, held)


def _codec(network: Any, variables: Mapping[str, Any]) -> Codec:
    settings = {
        f.name: repr(getattr(network, f.name))
        for f in dataclasses.fields(network)
        if f.name not in ("parent", "name", "remat")
    }
    return Codec(network, variables, f"{fingerprint(variables)}-{short_hash(settings)}")


def known_scale(workdir: Path, variables: Mapping[str, Any]) -> dict[str, Any] | None:
    """`scale` and `shift` of the latents of these weights, as kept in the run; None where they are
    not.

    Raises:
      ValueError: the record is damaged.
    """
    file, weights = workdir / SCALES, fingerprint(variables)
    known = read_json(file, missing={})
    if weights not in known:
        return None
    found = known[weights] if isinstance(known[weights], dict) else {}
    scale: dict[str, Any] = {name: found.get(name) for name in ("scale", "shift")}
    if not all(type(x) in (int, float) and math.isfinite(x) for x in scale.values()):
        raise ValueError(f"{file} holds no scale and shift: remove it, they are measured again")
    return scale


def keep_scale(run: TrainedRun, images: Callable[[int], np.ndarray]) -> None:
    """Measures the scale and the shift of the latents of a run of an autoencoder into its workdir
    (`latent_scale.json`), where they are not there yet.

    Args:
      images: the first so many training images `[N, H, W, C] float32 in [-1, 1]`, or all.
    """
    network, variables = _autoencoder(run)
    if known_scale(run.workdir, variables) is not None:
        return
    file = run.workdir / SCALES
    measured = measure_scale(network, variables, images(IMAGES))
    known = {**read_json(file, missing={}), fingerprint(variables): measured}
    if jax.process_index() == 0:
        replace_file(file, (json.dumps(known, indent=2) + "\n").encode())


def measure_scale(
    network: Autoencoder, variables: Mapping[str, Any], image: np.ndarray
) -> dict[str, float]:
    """`shift`, the mean of the latents, and `scale`, one over their standard deviation, over
    positions and channels of `image [N, H, W, C] float32 in [-1, 1]`.

    Rombach et al. 2022, appendix G. The variance is that of samples of the posterior, whose own is
    added and not drawn.
    """

    @jax.jit
    def moments(image: Any) -> Any:
        z: Any = network.apply(variables, image, method="encode")
        mean, spread = (z.mean, jnp.exp(z.log_variance)) if isinstance(z, Posterior) else (z, 0.0)
        return mean.mean((1, 2, 3)), (mean**2 + spread).mean((1, 2, 3))

    first, second = map_batches(lambda b: moments(b["image"]), {"image": image}, BATCH)
    mean, square = (x.astype(np.float64).mean() for x in (first, second))
    deviation = float(np.sqrt(max(square - mean**2, 0.0)))
    if not deviation > 0:
        raise ValueError("the codec's latents are all the same: train it")
    return {"scale": 1.0 / deviation, "shift": float(mean), "images": len(first)}
