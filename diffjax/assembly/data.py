"""Data of a run: config section `data`, and batches read ahead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffjax.choices import construct
from diffjax.data.loader import Loader
from diffjax.data.oversampling import Oversample, epoch_indices
from diffjax.data.schema import Source
from diffjax.data.transforms import TRANSFORMS, Transform
from diffjax.pretrained.codec import Codec
from diffjax.pretrained.image_tower import LoadedImageTower
from diffjax.pretrained.latent_cache import cached_latents
from diffjax.ranges import Pixels, Workers

# Transforms that mean the same of a codec's moments as of pictures.
_OF_MOMENTS = ("random_flip", "tokenize")


@dataclass(frozen=True)
class DataConfig:
    """Config section `data`.

    Attributes:
      train, test: sections of `make_source`; test may be left out.
      others: further splits for evaluators, by name.
      image_shape: (height, width, channels) that the networks are made for; other data are
        refused. None takes what the data have.
      oversample: sections of `Oversample`: training records that an epoch shows more than once.
      transforms: of the training examples.
      eval_transforms: of evaluated examples.
      cache_latents: train on the codec's moments of the images, or on their embeddings where
        diffusion works in these, computed once (by `eval_transforms`) and kept as array_record, and
        with them the embeddings that conditions read; `transforms` are then of these. With a
        `random_flip` among them those of the mirrored images are kept too, at twice the disk.
      cache: keep decoded examples in memory: True, False or "auto".
      prefetch, threads, workers: see `Loader.iterate`.
    """

    train: Mapping[str, Any]
    test: Mapping[str, Any] | None = None
    others: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    image_shape: tuple[Pixels, ...] | None = None
    oversample: tuple[Mapping[str, Any], ...] = ()
    transforms: tuple[Mapping[str, Any], ...] = ({"type": "to_float"},)
    eval_transforms: tuple[Mapping[str, Any], ...] = ({"type": "to_float"},)
    cache_latents: bool = False
    cache: bool | str = "auto"
    prefetch: Workers = 2
    threads: Workers = 1
    workers: Workers = 0


def trained_on(
    data: DataConfig,
    source: Source,
    codec: Codec | None,
    pictures: Sequence[Transform],
    towers: Mapping[str, LoadedImageTower] | None = None,
) -> Source:
    """The source that training reads: `source` itself, or the codec's moments of its `pictures` and
    the embeddings of `towers`, by field.

    Raises:
      ValueError: latents are to be kept, and there is no codec; or to be flipped, and those of the
        mirrored pictures are not there; or to be changed as pictures are.
    """
    types = [str(t.get("type")) for t in data.transforms if isinstance(t, Mapping)]
    if data.cache_latents or source.info.codec:
        wrong = [name for name in types if name in TRANSFORMS and name not in _OF_MOMENTS]
        if wrong:
            raise ValueError(
                f"data.transforms has {wrong[0]!r}, which is of pictures, but this run trains on a "
                f"codec's moments: leave it out (of moments: {', '.join(_OF_MOMENTS)})"
            )
    flips = "random_flip" in types
    if not data.cache_latents:
        if flips and source.info.codec and not source.info.flipped:
            raise ValueError(
                f"data.transforms has a random_flip, but {source.info.name} holds the latents of "
                "upright pictures alone, and a mirrored latent is not that of a mirrored picture: "
                "prepare the set again with --flips, or leave random_flip out"
            )
        return source
    towers = dict(towers or {})
    if codec is None and "image" not in towers:
        raise ValueError("data.cache_latents=True without a codec section: add it, or set False")
    if flips and towers:
        raise ValueError(
            "data.transforms has a random_flip, but an embedding that is kept is of the upright "
            "picture: leave random_flip out, or set data.cache_latents=False"
        )
    folder = data.train.get("data_dir")
    root = Path(folder).expanduser() if folder else None
    return cached_latents(source, pictures, codec, root, flips, towers)


def check_image_shape(data: DataConfig, source: Source, shape: tuple[int, ...]) -> None:
    """Raises ValueError where the images of a batch are not of `data.image_shape`."""
    if data.image_shape is not None and shape != data.image_shape:
        raise ValueError(
            f"the images of {source.info.name} are {shape}, but data.image_shape says "
            f"{data.image_shape}: add a resizing transform, or prepare the set at that size"
        )


def epoch_of(data: DataConfig, source: Source) -> np.ndarray | None:
    """Indices of an epoch, by `data.oversample`; None for every record once."""
    if not data.oversample:
        return None
    rules = [construct(Oversample, "data.oversample", section) for section in data.oversample]
    return epoch_indices(source, rules)


@dataclass(frozen=True)
class Prefetching:
    """The loader with the config's reading-ahead."""

    loader: Loader
    data: DataConfig

    def iterate(self, start_step: int) -> Iterator[Mapping[str, np.ndarray]]:
        d = self.data
        return self.loader.iterate(
            start_step, prefetch=d.prefetch, threads=d.threads, workers=d.workers
        )

    def batch(self, step: int, rows: Any = None) -> Mapping[str, np.ndarray]:
        return self.loader.batch(step, rows)

    def batch_spec(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        return self.loader.batch_spec()

    def fingerprint(self) -> Mapping[str, Any]:
        return self.loader.fingerprint()
