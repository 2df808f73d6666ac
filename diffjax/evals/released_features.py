"""Released networks as feature extractors: FID's InceptionV3, and the image tower of a CLIP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from diffjax.choices import pick, unknown
from diffjax.data.resize import resize_short
from diffjax.evals.features import FeatureExtractor
from diffjax.evals.resample import Resample
from diffjax.models.inception import SIZE, WIDTHS, InceptionV3

# Levels u in 0 .. 255 to what the network reads, as (gain, shift) of u / 127.5 - 1: "unit" is that
# itself, "tensorflow" (u - 128) / 128, which is in the graph.
SCALES: dict[str, tuple[float, float]] = {
    "unit": (1.0, 0.0),
    "tensorflow": (127.5 / 128.0, -0.5 / 128.0),
}
# Whose numbers are to be met -> how an image is resized and scaled. torch-fidelity, and the graphs
# that guided-diffusion and EDM evaluate with, are "tensorflow".
PROTOCOLS: dict[str, tuple[str, str]] = {
    "pytorch_fid": ("bilinear", "unit"),
    "tensorflow": ("tensorflow", "tensorflow"),
    "clean": ("clean", "tensorflow"),
}


def inception_features(
    weights: Mapping[str, Any],
    *,
    protocol: str = "pytorch_fid",
    resize: str | None = None,
    scale: str | None = None,
    width: int = 2048,
    logits_bias: bool = False,
    batch_size: int = 64,
    **kw: Any,
) -> FeatureExtractor:
    """FID's extractor: features `[N, width]`, 1008 logits, sFID's spatial features.

    Args:
      weights: variables of `InceptionV3`, see `interop.inception`.
      protocol: a key of `PROTOCOLS`.
      resize: of the protocol, another key of `resample.METHODS`.
      scale: of the protocol, another key of `SCALES`.
      width: 2048, or 64, 192 or 768 for the means of earlier layers.
      logits_bias: keep the head's bias in the logits; the Inception scores of guided-diffusion's
        and torch-fidelity's code leave it out.
      batch_size: images at a time; a batch of 64 takes about a gigabyte.
      kw: `quantise`, `dequantise` and `sharding` of `FeatureExtractor`.

    Raises:
      ValueError: an unknown name, which lists the options.
    """
    said = PROTOCOLS[pick("protocol", protocol, PROTOCOLS)]
    resize, scale = resize or said[0], scale or said[1]
    gain, shift = SCALES[pick("scale", scale, SCALES)]
    if width not in WIDTHS:
        raise unknown("width", width, map(str, WIDTHS))
    resample, network = Resample(resize, SIZE), InceptionV3()
    logits = "logits" if logits_bias else "logits_unbiased"

    def apply(variables: Any, image: Any) -> tuple[Any, Any, Any]:
        # GPUs and TPUs would otherwise convolve in fewer bits, which shifts distances.
        with jax.default_matmul_precision("highest"):
            x = resample(image) * gain + shift
            x = jnp.broadcast_to(x, (*x.shape[:-1], 3))  # grey is three equal channels
            found: Any = network.apply(variables, x)
        return found[str(width)], found[logits], found["spatial"]

    return FeatureExtractor(
        apply=apply,
        weights=weights,
        name="InceptionV3",
        resize=f"{resize} {SIZE}",
        resample=resample,
        facts={"scale": scale, "width": width, "logits": logits},
        batch_size=batch_size,
        **kw,
    )


def clip_features(
    encode_image: Callable[..., Any], variables: Any, size: int, name: str, **kw: Any
) -> FeatureExtractor:
    """The extractor of a CLIP's image tower, its embeddings not normalised.

    Images come to it as in CMMD's code (Jayasumana et al. 2024, google-research/cmmd, io_util.py):
    Pillow resizes the central square of the 8-bit picture, which rounds to levels after each axis.

    Args:
      encode_image: `(variables, image [B, size, size, 3] in [-1, 1]) -> [B, E]`, not normalised.
      variables: its argument.
      size: pixels.
      name: of the tower.
      kw: of `FeatureExtractor`.
    """

    def apply(weights: Any, image: Any) -> tuple[Any, None]:
        with jax.default_matmul_precision("highest"):
            x = jnp.broadcast_to(image, (*image.shape[:-1], 3))  # grey is three equal channels
            return encode_image(weights, x), None

    return FeatureExtractor(
        apply=apply,
        weights=variables,
        name=name,
        resize=f"centre square, 8-bit bicubic {size}",
        square=True,
        prepare=lambda pixels: resize_short(pixels, size),
        **kw,
    )
