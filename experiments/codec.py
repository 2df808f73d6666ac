"""A frozen autoencoder for latent diffusion: of a run of ours, or of a released model."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.choices import construct
from diffjax.data.evaluation import as_arrays
from diffjax.data.transforms import make_transforms
from diffjax.evals.batches import map_batches
from diffjax.fingerprints import fingerprint, short_hash, to_host
from diffjax.interop.autoencoder import load_autoencoder
from diffjax.interop.hub import locate_autoencoder
from diffjax.models import build_model
from diffjax.models.autoencoder import Autoencoder, Posterior
from diffjax.runs.records import read_json
from diffjax.train.writer import replace_file
from experiments.assemble import Assembly
from experiments.features import make_features
from experiments.prerequisites import Reference

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
class CodecChoices(Reference):
    """Config section `codec`: the run of an autoencoder (see `Reference`), or a released model.

    Attributes:
      model: a folder of diffusers', of a pipeline or of its `vae` alone, or the name of either on
        the hub.
    """

    model: str | None = None
    section: ClassVar[str] = "codec"
    released: ClassVar[tuple[str, ...]] = ("model",)


def load_codec(reference: Mapping[str, Any]) -> Codec:
    """The codec of a config section, see `CodecChoices`.

    The scale and the shift of a run's latents are measured when first asked for, over the first
    2,048 training images, and kept in its workdir (`latent_scale.json`); those of a released model
    are its own.

    Raises:
      ValueError: no such run and no `config` to train it from, a run of another task, or whatever
        is wrong with released weights.
    """
    choices: CodecChoices = construct(CodecChoices, "codec", reference)
    if choices.model is not None:
        part = load_autoencoder(locate_autoencoder(choices.model))
        return _codec(build_model(**part.section), part.variables)
    assembly = choices.open(make_features)
    network: Any = getattr(assembly.task, "network", None)
    if not isinstance(network, Autoencoder):
        kind = assembly.config["task"].get("type")
        raise ValueError(f"{assembly.workdir} is a run of task {kind!r}; a codec is 'autoencoder'")
    _, state, frozen = assembly.trained()
    held = state.variables(frozen, choices.ema)
    variables = jax.tree.map(to_host, assembly.task.codec_variables(held))  # type: ignore[attr-defined]
    scale: dict[str, Any] = _scale(assembly, network, variables)
    return _codec(network.clone(**scale), variables)


def _codec(network: Any, variables: Mapping[str, Any]) -> Codec:
    settings = {
        f.name: repr(getattr(network, f.name))
        for f in dataclasses.fields(network)
        if f.name not in ("parent", "name", "remat")
    }
    return Codec(network, variables, f"{fingerprint(variables)}-{short_hash(settings)}")


def _scale(
    assembly: Assembly, network: Autoencoder, variables: Mapping[str, Any]
) -> dict[str, Any]:
    """`scale` and `shift`, from the run's record or measured into it."""
    file, weights = assembly.workdir / SCALES, fingerprint(variables)
    known = read_json(file, missing={})
    if weights not in known:
        known[weights] = measure_scale(network, variables, _images(assembly))
        if jax.process_index() == 0:
            replace_file(file, (json.dumps(known, indent=2) + "\n").encode())
    found = known[weights] if isinstance(known[weights], dict) else {}
    scale: dict[str, Any] = {name: found.get(name) for name in ("scale", "shift")}
    if not all(type(x) in (int, float) and math.isfinite(x) for x in scale.values()):
        raise ValueError(f"{file} holds no scale and shift: remove it, they are measured again")
    return scale


def _images(assembly: Assembly) -> np.ndarray:
    transforms = make_transforms(assembly.data.eval_transforms, assembly.tokenizer)
    return as_arrays(assembly.source, transforms, IMAGES)["image"]


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
