"""Feature extractors: images through the files' 8 bits and a fixed network to features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np

from diffjax.choices import unknown
from diffjax.compiler import compiler_options
from diffjax.evals.batches import map_batches
from diffjax.evals.protocol import fingerprint

# How a float image x in [-1, 1] becomes a file's 0 .. 255. Published distances differ in this.
QUANTISE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round": lambda x: np.rint(127.5 * x + 127.5),
    "floor": lambda x: np.floor(127.5 * x + 127.5),
    "edm": lambda x: np.floor(127.5 * x + 128.0),
}


def to_uint8(image: Any, how: str = "round") -> np.ndarray:
    """`image [...] float32 in [-1, 1]` as uint8, clipped; `how` is a key of `QUANTISE`."""
    if how not in QUANTISE:
        raise unknown("quantise", how, [*QUANTISE, "none"])
    return np.clip(QUANTISE[how](np.asarray(image, np.float32)), 0, 255).astype(np.uint8)


def quantised(image: Any, how: str) -> np.ndarray:
    """`image` through uint8 and back to float32 in [-1, 1]; 'none' leaves it alone."""
    if how == "none":
        return np.asarray(image, np.float32)
    return to_uint8(image, how).astype(np.float32) / np.float32(127.5) - np.float32(1)


class Extracted(NamedTuple):
    """`features [N, D] float32`, `logits [N, K] float32` or None."""

    features: np.ndarray
    logits: np.ndarray | None


@dataclass(frozen=True, eq=False)
class FeatureExtractor:
    """A fixed network that images are compared in.

    Attributes:
      apply: pure `(weights, image [B, H, W, C] float32 in [-1, 1]) -> (features, logits | None)`.
      weights: the network's arrays (an argument of the jitted call, not constants in it).
      name: for the protocol, e.g. "digits classifier".
      quantise: a key of `QUANTISE`, or "none".
      resize: what `apply` does before its network, for the protocol.
      batch_size: images at a time.
    """

    apply: Callable[[Any, Any], tuple[Any, Any]]
    weights: Any
    name: str
    quantise: str = "round"
    resize: str = "none"
    batch_size: int = 256

    def __post_init__(self) -> None:
        quantised(np.zeros(1), self.quantise)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights."""
        return fingerprint(self.weights)

    @cached_property
    def _jitted(self) -> Callable[[Any, Any], Any]:
        return jax.jit(self.apply, compiler_options=compiler_options())

    def __call__(self, image: Any, *, real: bool = False) -> Extracted:
        """Features of `image [N, H, W, C] float32 in [-1, 1]`.

        `real` images lie on the 8-bit grid already and are rounded to it: under "floor" the
        rounding error of float32 would push some of them one level down.
        """
        how = "round" if real and self.quantise != "none" else self.quantise
        arrays = {"image": quantised(image, how)}
        fn = lambda batch: self._jitted(self.weights, batch["image"])  # noqa: E731
        features, logits = map_batches(fn, arrays, self.batch_size)
        return Extracted(features.reshape(len(features), -1), logits)


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
