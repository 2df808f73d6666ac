"""Feature extractors: images through the files' 8 bits and a fixed network to features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np

from diffjax.batches import map_batches
from diffjax.choices import pick, unknown
from diffjax.compiler import compiler_options
from diffjax.evals.resample import Resample
from diffjax.fingerprints import fingerprint

# How a float image x in [-1, 1] becomes a file's 0 .. 255. Published distances differ in this.
QUANTISE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round": lambda x: np.rint(127.5 * x + 127.5),
    "floor": lambda x: np.floor(127.5 * x + 127.5),
    "edm": lambda x: np.floor(127.5 * x + 128.0),
}


def to_uint8(image: Any, how: str = "round") -> np.ndarray:
    """`image [...] float32 in [-1, 1]` as uint8, clipped; `how` is a key of `QUANTISE`.

    Raises:
      ValueError: an unknown `how`, or pixels that are not finite, of which there is no picture.
    """
    if how not in QUANTISE:
        raise unknown("quantise", how, [*QUANTISE, "none"])
    x = np.asarray(image, np.float32)
    bad = x.size - int(np.isfinite(x).sum())
    if bad:
        raise ValueError(
            f"{bad} of {x.size} values of the pictures are not finite, so nothing is written: the "
            "network's numbers overflow (a lower guidance, or float32, may help), or its weights "
            "are broken"
        )
    return np.clip(QUANTISE[how](x), 0, 255).astype(np.uint8)


def quantised(image: Any, how: str) -> np.ndarray:
    """`image` through uint8 and back to float32 in [-1, 1]; 'none' leaves it alone."""
    if how == "none":
        return np.asarray(image, np.float32)
    return to_uint8(image, how).astype(np.float32) / np.float32(127.5) - np.float32(1)


# What is added to an image that was read or rounded: nothing, or noise as wide as a level, under
# which the levels of 8 bits become a continuous variable (Theis et al. 2016, section 3.1).
DEQUANTISE = ("none", "uniform")


def dequantised(image: np.ndarray, how: str, start: int = 0) -> np.ndarray:
    """`image [N, ...] float32 in [-1, 1]` with the noise of `how`, a key of `DEQUANTISE`.

    Row i draws by `start + i`, its place in the whole set, so batches change nothing.
    """
    if pick("dequantise", how, DEQUANTISE) == "none":
        return image
    rows = range(start, start + len(image))
    noise = [np.random.default_rng((0, row)).random(image.shape[1:], np.float32) for row in rows]
    return image + (np.stack(noise) - np.float32(0.5)) / np.float32(127.5)


class Extracted(NamedTuple):
    """Features of N images: `features [N, D]`, `logits [N, K]` and `spatial [N, S]`, float32 or
    None."""

    features: np.ndarray
    logits: np.ndarray | None = None
    spatial: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class FeatureExtractor:
    """A fixed network that images are compared in.

    Attributes:
      apply: pure `(weights, image [B, H, W, C] float32 in [-1, 1])` to the parts of `Extracted`;
        the last may be left out.
      weights: the network's arrays (an argument of the jitted call, not constants in it).
      name: for the protocol, e.g. "digits classifier".
      quantise: a key of `QUANTISE`, or "none".
      dequantise: a key of `DEQUANTISE`.
      resize: what `apply` does before its network, for the protocol.
      resample: the same, for images of different sizes, which are resized one by one; None refuses
        such.
      square: take the central square of each image first.
      prepare: `[H, W, C] uint8 -> [size, size, C] uint8`, done to each image on the host, after
        `square` and before all else: a resize that rounds to levels. None leaves images alone.
      channels: that images must have.
      facts: what else belongs to the protocol.
      batch_size: images at a time.
      sharding: of a batch over several devices; `batch_size` must divide by them.
    """

    apply: Callable[[Any, Any], tuple[Any, ...]]
    weights: Any
    name: str
    quantise: str = "round"
    dequantise: str = "none"
    resize: str = "none"
    resample: Resample | None = None
    square: bool = False
    prepare: Callable[[np.ndarray], np.ndarray] | None = None
    channels: int = 3
    facts: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 256
    sharding: jax.sharding.Sharding | None = None

    def __post_init__(self) -> None:
        dequantised(quantised(np.zeros(1), self.quantise), self.dequantise)
        if self.prepare is not None and self.quantise == "none":
            raise ValueError(
                f"quantise='none': {self.name} resizes images of 8 bits ({self.resize}); choose of "
                f"{', '.join(QUANTISE)}"
            )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights."""
        return fingerprint(self.weights)

    @property
    def takes_grey(self) -> bool:
        """Whether grey images are taken for three equal channels, as where images are resized."""
        return self.resample is not None or self.prepare is not None

    @property
    def protocol(self) -> dict[str, Any]:
        """Facts that its features depend on beside the images; {} where its weights are shapes."""
        if any(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(self.weights)):
            return {}
        noise = {} if self.dequantise == "none" else {"dequantise": self.dequantise}
        return {
            "resize": self.resize,
            "quantise": self.quantise,
            **noise,
            "extractor": self.name,
            "features": self.fingerprint,
            **self.facts,
        }

    @cached_property
    def _jitted(self) -> Callable[[Any, Any], Any]:
        return jax.jit(self.apply, compiler_options=compiler_options())

    def __call__(self, image: Any, *, real: bool = False, start: int = 0) -> Extracted:
        """Features of `image [N, H, W, C] float32 in [-1, 1]`.

        `real` images lie on the 8-bit grid already and are rounded to it: under "floor" the
        rounding error of float32 would push some of them one level down. `start` is the place of
        the first in the whole set, where these are a part of it.
        """
        how = "round" if real and self.quantise != "none" else self.quantise
        if self.prepare is not None:
            return self.pixels(list(to_uint8(image, how)), start=start)
        image = _square(image) if self.square else image
        return self._run(dequantised(quantised(image, how), self.dequantise, start))

    def shapes(self, image: Any) -> Extracted:
        """By shape, what it gives of a batch of images shaped like `image [..., H, W, C]`.

        Raises:
          ValueError: its network does not take them.
        """
        if self.batch_size < 1:
            raise ValueError(f"features: batch_size={self.batch_size} must be at least 1")
        held = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), self.weights)
        batch = jax.ShapeDtypeStruct((self.batch_size, *image.shape[1:]), np.float32)
        try:
            features, *others = jax.eval_shape(self.apply, held, batch)
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(
                f"{self.name}, in which images are compared, does not take images "
                f"{image.shape[1:]}: {reason}"
            ) from error
        size = (self.batch_size, int(np.prod(features.shape[1:])))
        flat: Any = jax.ShapeDtypeStruct(size, features.dtype)
        return Extracted(flat, *others)

    def pixels(self, images: Sequence[np.ndarray], *, start: int = 0) -> Extracted:
        """Features of images `[H, W, C] uint8`, of one size or, where they are resized, of several.

        Raises:
          ValueError: sizes differ and nothing resizes them.
        """
        cut = [_square(x) for x in images] if self.square else images
        cut = cut if self.prepare is None else [self.prepare(x) for x in cut]
        if len({x.shape for x in cut}) == 1:
            return self._run(self._levels(np.stack(cut), start))
        if self.resample is None:
            raise ValueError(
                f"{self.name} compares images of one size, not of {cut[0].shape} and others"
            )
        one_by_one = [self._levels(x[None], start + i)[0] for i, x in enumerate(cut)]
        return self._run(np.stack([self.resample(x) for x in one_by_one]))

    def _levels(self, pixels: np.ndarray, start: int) -> np.ndarray:
        image = pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)
        return dequantised(image, self.dequantise, start)

    def _run(self, image: np.ndarray) -> Extracted:
        fn = lambda batch: self._jitted(self.weights, batch["image"])  # noqa: E731
        got = map_batches(fn, {"image": image}, self.batch_size, self.sharding)
        features, *others = got
        return Extracted(features.reshape(len(features), -1), *others)


# In the place of an extractor that is not there yet, while evaluators are tried: it takes all
# images, and of its features nothing is known.
STAND_IN = FeatureExtractor(
    lambda weights, image: (image, None), jax.ShapeDtypeStruct((), np.float32), "a stand-in"
)


def _square(pixels: np.ndarray) -> np.ndarray:
    """The central square of `[..., H, W, C]`; of an odd margin the smaller half above and left, as
    in CMMD's code."""
    height, width = pixels.shape[-3:-1]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[..., top : top + side, left : left + side, :]


def from_classifier(
    predict_fns: Mapping[str, Callable[..., Any]], variables: Any, name: str, **kw: Any
) -> FeatureExtractor:
    """The extractor of a classifier task: its `features` and its `logits`, one jitted pass."""
    for needed in ("features", "logits"):
        if needed not in predict_fns:
            raise ValueError(f"a classifier needs the predict function '{needed}'")

    def apply(weights: Any, image: Any) -> tuple[Any, Any]:
        return predict_fns["features"](weights, image), predict_fns["logits"](weights, image)

    return FeatureExtractor(apply=apply, weights=variables, name=name, **kw)
