"""There and back: encode real images, decode them, and measure what was lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np

from diffjax.batches import map_batches
from diffjax.choices import pick
from diffjax.evals import trial
from diffjax.evals.base import Picture
from diffjax.evals.context import EvalContext
from diffjax.evals.pictures import tile_grid
from diffjax.evals.reconstruction_metrics import MEASURES, Pairs, check_measure, try_measure
from diffjax.fingerprints import fingerprint
from diffjax.ranges import Amount, Tiles
from diffjax.results import Result, extend
from diffjax.task import Variables

Stages = tuple[Callable[..., Any], Callable[..., Any], dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """`decode(variables, encode(variables, image, cond), cond)` over part of a split, where each
    image is given with its own class, text, ...

    Attributes:
      encode, decode: predict functions `(variables, image or z [B, ...], cond, **pred_kw)`.
      num_images: the first so many of the split.
      measures: what more is measured, keys of `MEASURES`.
      shown: images in the picture.
    """

    context: EvalContext
    encode: str = "encode"
    decode: str = "decode"
    pred_kw: Mapping[str, Any] = field(default_factory=dict)
    split: str = "test"
    num_images: Amount = 256
    measures: tuple[str, ...] = ()
    batch_size: Amount = 128
    shown: Tiles = 12

    @cached_property
    def _stages(self) -> Stages:
        encode, options = self.context.bind(self.encode, self.pred_kw)
        decode, _ = self.context.bind(self.decode, self.pred_kw)
        return (
            jax.jit(lambda v, x, cond: encode(v, x, cond)),
            jax.jit(lambda v, z, cond: decode(v, z, cond)),
            options,
        )

    def __post_init__(self) -> None:
        for name in (self.encode, self.decode):
            self.context.recipe(self.pred_kw, self.context.bind(name, self.pred_kw)[1])
        self.context.split(self.split)
        for name in self.measures:
            check_measure(pick("measure", name, MEASURES), self.context, self.split)

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        spec = {**self.context.outline(self.split)}
        spec["label"] = jax.ShapeDtypeStruct(spec["image"].shape[:1], np.int32)
        batch = trial.batch_of(self.context, spec, self.batch_size)
        image, cond = batch["image"], self.context.cond_of(batch, self.split)
        z = self.context.shapes(self.encode, self.pred_kw, variables, image, cond)
        decoded = self.context.shapes(self.decode, self.pred_kw, variables, z, cond)
        decoded = trial.images(decoded, self.batch_size, self.decode)
        trial.same_images(self.context, decoded, self.split, "reconstructions")
        for name in self.measures:
            try_measure(name, self.context, variables, image)

    def run(self, variables: Variables) -> Iterator[Result | Picture]:
        """Results: error per dimension, its PSNR in dB, moments of z, those of `measures`; picture
        "reconstruction"."""
        encode, decode, options = self._stages
        arrays = {k: v[: self.num_images] for k, v in self.context.split(self.split).items()}

        def one(batch: dict[str, Any]) -> Any:
            cond = self.context.cond_of(batch, self.split)
            z = encode(variables, batch["image"], cond)
            return z, decode(variables, z, cond)

        image = np.asarray(arrays["image"])
        fields = [name for name in self.context.drawn_by if name in arrays]
        batch = {name: arrays[name] for name in ("image", *fields)}
        batch["label"] = self.context.labels(self.split)[: len(image)]
        z, decoded = map_batches(one, batch, self.batch_size, self.context.batch_sharding)
        mse = np.square(decoded.astype(np.float64) - image).reshape(len(image), -1).mean(axis=1)
        how = extend(
            options,
            encode=self.encode,
            decode=self.decode,
            split=self.split,
            data=fingerprint(arrays),
            num_images=len(image),
        )
        error = float(mse.std(ddof=1) / np.sqrt(len(mse))) if len(mse) > 1 else None
        yield Result("reconstruction_mse", float(mse.mean()), error, how)
        # The range [-1, 1] is 2 wide: peak squared error 4.
        psnr = 10 * np.log10(4.0 / max(float(mse.mean()), 1e-12))
        yield Result("reconstruction_psnr", float(psnr), None, how)
        yield Result("latent_mean", float(z.mean(dtype=np.float64)), None, how)
        yield Result("latent_std", float(z.std(dtype=np.float64)), None, how)
        pairs = Pairs(self.context, variables, arrays, decoded, self.batch_size)
        for name in self.measures:
            for found in MEASURES[name](pairs):
                yield replace(found, protocol=extend(how, **found.protocol))
        yield self._picture(image, z, decoded, float(mse.mean()))

    def _picture(self, image: Any, z: Any, decoded: Any, mse: float) -> Picture:
        kept = min(self.shown, len(image))
        rows = [("image", image), ("decoded", decoded), ("|error|", np.abs(decoded - image) - 1)]
        if z.shape == image.shape:
            rows.insert(1, ("encoded", z / 3.0))
        tiles = np.stack([x[:kept] for _, x in rows])
        note = f"mean squared error per dimension {mse:.2g}, pixels in [-1, 1]"
        names = [name for name, _ in rows]
        picture = tile_grid(tiles, rows=names, title="There and back", note=note)
        return Picture("reconstruction", picture, f"Real images, encoded and decoded: {note}.")
