"""A codec's moments of a data set's images, and a CLIP's embeddings of them, computed once and kept
as array_record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from diffjax.batches import map_batches
from diffjax.data.builders.base import RecordBuilder, prepare
from diffjax.data.builders.latents import builder
from diffjax.data.draws import Draws
from diffjax.data.prepared import PreparedSource, default_data_dir
from diffjax.data.schema import FLIPPED, Columns, Source
from diffjax.data.transforms import Transform, apply, describe
from diffjax.denoisers.spaces import LatentSpace
from diffjax.fingerprints import short_hash
from diffjax.pretrained.codec import Codec
from diffjax.pretrained.image_tower import LoadedImageTower

_AT_ONCE = 64
Encode = Callable[[Array], Array]


def cached_latents(
    source: Source,
    transforms: Sequence[Transform],
    codec: Codec | None,
    data_dir: Path | None = None,
    flips: bool = False,
    towers: Mapping[str, LoadedImageTower] | None = None,
) -> PreparedSource:
    """`source`, its images replaced by a codec's moments, or by embeddings; written when first
    asked for.

    Args:
      source: the pictures.
      transforms: that bring them to what the networks take; none may be random.
      codec: whose moments are to be `image`; None where a tower's embeddings are. A change of its
        weights is another set.
      data_dir: by default `default_data_dir()`.
      flips: whether the moments of the mirrored pictures are kept too, at twice the disk.
      towers: field -> the tower whose scaled embeddings are kept in it.
    """
    towers = dict(towers or {})
    pictures = [t for t in describe(transforms) if t["type"] != "tokenize"]
    made_of: list[Any] = [_fingerprint(codec, towers), source.info.fingerprint, pictures]
    embedded = {field: tower.fingerprint for field, tower in towers.items()}
    made_of += [FLIPPED] * flips + [embedded] * bool(embedded)
    name = f"latents_{short_hash(made_of)}"
    root = data_dir or default_data_dir()
    split = source.info.split.partition("[")[0].partition("+")[0]
    split = "train" if split == "all" else split  # a folder's, and a word that TFDS keeps

    def make(aside: Path) -> RecordBuilder:
        return latent_builder(name, {split: source}, transforms, codec, aside, flips, towers)

    prepare(make, name, root)
    return PreparedSource(name, split, root)


def latent_builder(
    name: str,
    sources: Mapping[str, Source],
    transforms: Sequence[Transform],
    codec: Codec | None,
    data_dir: Path,
    flips: bool = False,
    towers: Mapping[str, LoadedImageTower] | None = None,
) -> RecordBuilder:
    """The builder of a set of moments and embeddings, from one source of pictures per split; with
    `flips` of the moments of their mirror images too.

    Raises:
      ValueError: pictures of several sizes, or that the codec or a tower cannot take.
    """
    towers = dict(towers or {})
    images = [t for t, said in zip(transforms, describe(transforms), strict=True)
              if said["type"] != "tokenize"]  # fmt: skip

    def pictures(columns: Columns, indices: np.ndarray) -> np.ndarray:
        return apply(images, {"image": columns["image"]}, Draws.at(0, indices))["image"]

    first = next(iter(sources.values()))
    one = pictures({"image": np.asarray(first[0]["image"])[None]}, np.arange(1))
    encoders = {field: _embed(tower, one.shape[1:]) for field, tower in towers.items()}
    if codec is not None:
        encoders["image"] = _moments(codec, one.shape[1:])
    mirrored = {FLIPPED: encoders["image"]} if flips else {}

    def encode(columns: Columns, indices: np.ndarray) -> dict[str, np.ndarray]:
        upright = {"image": pictures(columns, indices)}
        flipped = {"image": upright["image"][:, :, ::-1]}
        return {
            field: map_batches(lambda b, f=fn: f(b["image"]), seen, _AT_ONCE)
            for some, seen in ((encoders, upright), (mirrored, flipped))
            for field, fn in some.items()
        }

    both = {**encoders, **mirrored}
    shapes = {field: jax.eval_shape(fn, one).shape[1:] for field, fn in both.items()}
    made_of = _fingerprint(codec, towers)
    also = [f"{field} {t.fingerprint}" for field, t in sorted(towers.items()) if field != "image"]
    made_by = " ".join([made_of, *mirrored, *also])
    return builder(name, sources, encode, shapes, made_of, made_by, data_dir)


def _fingerprint(codec: Codec | None, towers: Mapping[str, LoadedImageTower]) -> str:
    """Of what makes `image`."""
    return towers["image"].fingerprint if codec is None else codec.fingerprint


def _moments(codec: Codec, image_shape: tuple[int, ...]) -> Encode:
    space = LatentSpace(codec.network, image_shape)  # Refuses what the codec cannot take.
    frozen = {"codec": jax.tree.map(jax.device_put, codec.variables)}
    return jax.jit(lambda image: space.moments(frozen, image))


def _embed(tower: LoadedImageTower, image_shape: tuple[int, ...]) -> Encode:
    tower.tower.check(image_shape)
    variables = jax.tree.map(jax.device_put, tower.variables)
    return jax.jit(lambda image: tower.tower.embed(variables, image))
