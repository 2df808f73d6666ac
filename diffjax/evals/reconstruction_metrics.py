"""Closeness of reconstructions to their images: each measure by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffjax.batches import map_batches
from diffjax.data import oracle
from diffjax.data.factors import FIELDS, scene_at
from diffjax.evals.context import EvalContext
from diffjax.evals.features import to_uint8
from diffjax.evals.fidelity import Fidelity, warn_of_few
from diffjax.metrics.classification import share
from diffjax.metrics.codebook import usage
from diffjax.metrics.frechet import moments
from diffjax.metrics.similarity import WINDOW, psnr, ssim
from diffjax.results import Result
from diffjax.task import Variables

# In dB: a mean over images, one of them infinite, would tell nothing.
EQUAL = 100.0


@dataclass(frozen=True, eq=False)
class Pairs:
    """Images and what became of them.

    Attributes:
      context: of the evaluator.
      variables: of the task.
      arrays: fields of the split's examples.
      decoded: `[N, H, W, C] float32`, in the order of `arrays["image"]`.
      batch_size: rows given to a predict function at a time.
    """

    context: EvalContext
    variables: Variables
    arrays: Mapping[str, np.ndarray]
    decoded: np.ndarray
    batch_size: int

    @property
    def bytes(self) -> tuple[np.ndarray, np.ndarray]:
        """Both as files would hold them, uint8."""
        return to_uint8(self.arrays["image"]), to_uint8(self.decoded)

    def predicted(self, pred: str, **fields: np.ndarray) -> np.ndarray:
        """The predict function `pred(variables, image, ...)` of all rows."""
        fn, names = self.context.compiled(pred), ("image", *fields)
        rows = {"image": np.asarray(self.arrays["image"]), **fields}
        return map_batches(
            lambda b: fn(self.variables, *(b[name] for name in names)),
            rows,
            self.batch_size,
            self.context.batch_sharding,
        )


def _over_images(name: str, each: np.ndarray, **how: Any) -> Result:
    std = float(each.std(ddof=1) / np.sqrt(len(each))) if len(each) > 1 else None
    return Result(name, float(each.mean()), std, how)


def _psnr(pairs: Pairs) -> Iterator[Result]:
    """PSNR in dB of 8 bits, the mean over images, where equal images count as `EQUAL`."""
    each = np.minimum(psnr(*pairs.bytes), EQUAL)
    yield _over_images("psnr", each, quantise="round")


def _ssim(pairs: Pairs) -> Iterator[Result]:
    """SSIM of 8 bits, the mean over images."""
    yield _over_images("ssim", ssim(*pairs.bytes), quantise="round")


def _frechet(pairs: Pairs) -> Iterator[Result]:
    """The Frechet distance of the reconstructions to these very images."""
    extract = pairs.context.extractor()
    real = extract(pairs.arrays["image"], real=True).features
    made = extract(pairs.decoded).features
    groups = 20 if len(real) >= 200 else 0
    got = Fidelity(groups).frechet(made, None, moments(real))
    warn_of_few([("rfid", got.said)])
    yield Result("rfid", got.value, got.std, {**extract.protocol, **got.said})


def _perceptual(pairs: Pairs) -> Iterator[Result]:
    """The task's own distance (LPIPS where that is its network)."""
    each = pairs.predicted("perceptual_distance", decoded=pairs.decoded)
    yield _over_images("perceptual_distance", each)


def _factors(pairs: Pairs) -> Iterator[Result]:
    """The share "factors_kept" of generated scenes all of whose factors the oracle reads off the
    reconstruction; "factors_read": off the image itself."""
    truth = [scene_at(pairs.arrays, i).canonical() for i in range(len(pairs.decoded))]
    for name, images in zip(("factors_read", "factors_kept"), pairs.bytes, strict=True):
        right = [a == b for a, b in zip(oracle.read_batch(images), truth, strict=True)]
        got = share(np.asarray(right))
        yield Result(name, got.value, got.std, {"quantise": "round"})


def _codes(pairs: Pairs) -> Iterator[Result]:
    """Perplexity and number of codes of all images together."""
    got = usage(pairs.predicted("codes"))
    yield Result("code_perplexity", got.perplexity, None)
    yield Result("codes_used", float(got.used), None)


# Of their protocols, the results hold what is their own.
MEASURES: dict[str, Callable[[Pairs], Iterator[Result]]] = {
    "psnr": _psnr,
    "ssim": _ssim,
    "rfid": _frechet,
    "perceptual": _perceptual,
    "factors": _factors,
    "codes": _codes,
}


def try_measure(name: str, context: EvalContext, variables: Variables, image: Any) -> None:
    """Raises ValueError where `name` cannot be measured of images shaped like `image [B, H, W, C]`
    and their reconstructions; see `evals.trial`."""
    size = image.shape[1:3]
    if name == "rfid":
        context.extractor().shapes(image)
    if name == "ssim" and min(size) < WINDOW:
        raise ValueError(f"measure 'ssim' needs {WINDOW} pixels a side, but images are {size}")
    if name == "perceptual":
        context.shapes("perceptual_distance", {}, variables, image, image)
    if name == "codes":
        context.shapes("codes", {}, variables, image)
    if name == "factors":
        oracle.check_images(image.shape, np.dtype(np.uint8))


def check_measure(name: str, context: EvalContext, split: str) -> None:
    """Raises ValueError where `name` cannot be measured of this run."""
    if name == "rfid":
        context.extractor()
    if name == "perceptual":
        context.bind("perceptual_distance")
    if name == "codes":
        context.bind("codes")
    if name == "factors":
        missing = [f for f in FIELDS if f not in context.split(split)]
        if missing:
            raise ValueError(f"measure 'factors' needs generated scenes; no {missing[0]!r} here")
