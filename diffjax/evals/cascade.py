"""What an upsampler adds to the images that its base draws: beside their bicubic enlargement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from diffjax.evals import trial
from diffjax.evals.base import Picture
from diffjax.evals.context import EvalContext
from diffjax.evals.drawing import draw
from diffjax.evals.fidelity import Fidelity, Measured, ratio, warn_of_few
from diffjax.evals.pictures import tile_grid
from diffjax.evals.samples import drawn_note
from diffjax.fingerprints import fingerprint
from diffjax.keys import check_seed
from diffjax.metrics.frechet import moments
from diffjax.ranges import Amount, MaybeAmount, Seed, Tiles
from diffjax.results import Result, extend
from diffjax.task import Variables

# The field by which an upsampler is given what its base has drawn.
LOW_RESOLUTION = "low_resolution"


@dataclass(frozen=True, eq=False)
class Cascade:
    """Frechet distances to the training images of the samples of a cascade, and of the same base
    samples enlarged bicubically (Keys 1981, a = -1/2, as Pillow does).

    Attributes:
      pred: predict function of samples, given the images of `base`; pred_kw: its options.
      base: predict function of the low-resolution images.
      num_samples: N, of the samples, and of held-out images where there are so many.
      batch_size: samples drawn at a time (the samples do not depend on it).
      groups: of the jackknife, see `Fidelity`.
      columns: samples in the picture.
    """

    context: EvalContext
    pred: str = "sample"
    base: str = "sample_base"
    pred_kw: Mapping[str, Any] = field(default_factory=dict)
    num_samples: Amount = 1000
    batch_size: Amount = 100
    seed: Seed = 0
    groups: MaybeAmount = 20
    columns: Tiles = 10

    def __post_init__(self) -> None:
        check_seed(self.seed)
        assert self._protocol
        self.context.bind(self.base)
        self.context.extractor()
        if self.num_samples < 4:
            raise ValueError(f"num_samples {self.num_samples}: a covariance needs four or more")

    @cached_property
    def _fidelity(self) -> Fidelity:
        return Fidelity(self.groups)

    @cached_property
    def _protocol(self) -> dict[str, Any]:
        return self.context.recipe(self.pred_kw, self.context.bind(self.pred, self.pred_kw)[1])

    @cached_property
    def _cond(self) -> Any:
        return self.context.cond(self.num_samples)

    def _with(self, small: Any) -> dict[str, Any]:
        """The conditions of samples that are made of the images `small`."""
        by_name = isinstance(self._cond, Mapping)
        return {**(self._cond if by_name else {"label": self._cond}), LOW_RESOLUTION: small}

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        c, size = self.context, min(self.batch_size, self.num_samples)
        small = trial.drawn(c, self.base, {}, variables, self._cond, size)
        image = trial.drawn(c, self.pred, self.pred_kw, variables, self._with(small), size)
        trial.same_images(c, image, "train")
        c.extractor().shapes(image)
        c.extractor().shapes(c.outline("train")["image"])

    def run(self, variables: Variables) -> Iterator[Result | Picture]:
        """Results "frechet" of the cascade, "frechet_bicubic" of the enlarged images and
        "frechet_ratio", the first over the second; "frechet_real" of held-out images;
        "consistency", the PSNR in dB of samples made small again, by the means of their squares, to
        the images they were made of. And a picture."""
        c = self.context
        sharding, size = c.batch_sharding, min(self.batch_size, self.num_samples)
        drawn = (variables, self.seed)
        small = draw(c.bind(self.base)[0], *drawn, self._cond, size, sharding)
        sampler = c.bind(self.pred, self.pred_kw)[0]
        large = draw(sampler, *drawn, self._with(small), size, sharding)
        bicubic = enlarged(small, large.shape[1:3])
        yield from self._results(small, bicubic, large)
        shown, f = min(self.columns, len(small)), _factor(small, large)
        near = np.repeat(np.repeat(small[:shown], f, axis=1), f, axis=2)
        rows = ["base", "bicubic", "cascade"]
        note = drawn_note(self._protocol, self.seed)
        tiles = np.stack([near, bicubic[:shown], large[:shown]])
        picture = tile_grid(tiles, rows=rows, title="Cascade", note=note)
        yield Picture("cascade", picture, f"Base samples, enlarged and upsampled. {note}.")

    def _results(
        self, small: np.ndarray, bicubic: np.ndarray, large: np.ndarray
    ) -> Iterator[Result]:
        c, extract = self.context, self.context.extractor()
        reference = moments(extract(c.train["image"], real=True).features)
        found: dict[str, Measured] = {}
        for name, images in (("frechet", large), ("frechet_bicubic", bicubic)):
            found[name] = self._fidelity.frechet(extract(images).features, None, reference)
        found["frechet_ratio"] = ratio(found["frechet"], found["frechet_bicubic"])
        said = {
            **self._protocol,
            **extract.protocol,
            "reference": fingerprint(dict(c.train)),
            "reference_size": len(c.train["image"]),
            "num_samples": len(large),
            "seed": self.seed,
        }
        if c.test is not c.train:
            held = np.asarray(c.test["image"])[: len(large)]
            real = extract(held, real=True).features
            found["frechet_real"] = self._fidelity.frechet(real, None, reference)
        warn_of_few((name, value.said) for name, value in found.items())
        for name, value in found.items():
            how = extend(said, **value.said, pred=self.pred)
            yield Result(name, value.value, value.std, how)
        yield Result("consistency", *consistency(small, large), extend(said, pred=self.pred))


def enlarged(small: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """`small [N, h, w, C]` enlarged bicubically, in [-1, 1]."""
    shape = (len(small), *size, small.shape[-1])
    return np.clip(np.asarray(jax.image.resize(small, shape, "cubic")), -1.0, 1.0)


def _factor(small: np.ndarray, large: np.ndarray) -> int:
    return large.shape[1] // small.shape[1]


def consistency(small: np.ndarray, large: np.ndarray) -> tuple[float, float]:
    """PSNR in dB, of all pixels together, of `large [N, H, W, C]` made small again to `small`, and
    its standard error over images, to first order."""
    n, h, w, c = small.shape
    f = _factor(small, large)
    again = np.clip(large, -1, 1).reshape(n, h, f, w, f, c).mean(axis=(2, 4), dtype=np.float64)
    # Pixels lie in [-1, 1]: their range is 2.
    each = np.square((again - small) / 2).mean(axis=(1, 2, 3))
    mean = max(float(each.mean()), 1e-12)
    return -10 * np.log10(mean), float(10 / np.log(10) * each.std() / mean / n**0.5)
