"""A codec's moments of a data set, computed once and kept as array_record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

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

_AT_ONCE = 64


def cached_latents(
    source: Source,
    transforms: Sequence[Transform],
    codec: Codec,
    data_dir: Path | None = None,
    flips: bool = False,
) -> PreparedSource:
    """`source`, its images replaced by the codec's moments; written when first asked for.

    Args:
      source: the pictures.
      transforms: that bring them to what the codec takes; none may be random.
      codec: a change of its weights is another set.
      data_dir: by default `default_data_dir()`.
      flips: whether the moments of the mirrored pictures are kept too, at twice the disk.
    """
    pictures = [t for t in describe(transforms) if t["type"] != "tokenize"]
    made_of: list[Any] = [codec.fingerprint, source.info.fingerprint, pictures]
    name = f"latents_{short_hash([*made_of, FLIPPED] if flips else made_of)}"
    root = data_dir or default_data_dir()
    split = source.info.split.partition("[")[0].partition("+")[0]

    def make(aside: Path) -> RecordBuilder:
        return latent_builder(name, {split: source}, transforms, codec, aside, flips)

    prepare(make, name, root)
    return PreparedSource(name, split, root)


def latent_builder(
    name: str,
    sources: Mapping[str, Source],
    transforms: Sequence[Transform],
    codec: Codec,
    data_dir: Path,
    flips: bool = False,
) -> RecordBuilder:
    """The builder of a set of moments, from one source of pictures per split; with `flips` of their
    mirror images too.

    Raises:
      ValueError: pictures of several sizes, or that the codec cannot take.
    """
    network = codec.network
    f = network.factor
    space = LatentSpace(network, (f, f, network.image_channels))
    images = [t for t, said in zip(transforms, describe(transforms), strict=True)
              if said["type"] != "tokenize"]  # fmt: skip
    frozen = {"codec": jax.tree.map(jax.device_put, codec.variables)}
    moments = jax.jit(lambda image: space.moments(frozen, image))

    def pictures(columns: Columns, indices: np.ndarray) -> np.ndarray:
        return apply(images, {"image": columns["image"]}, Draws.at(0, indices))["image"]

    def encode(columns: Columns, indices: np.ndarray) -> dict[str, np.ndarray]:
        upright = pictures(columns, indices)
        images = {"image": upright} | ({FLIPPED: upright[:, :, ::-1]} if flips else {})
        return {
            field: map_batches(lambda batch: moments(batch["image"]), {"image": image}, _AT_ONCE)
            for field, image in images.items()
        }

    first = next(iter(sources.values()))
    one = pictures({"image": np.asarray(first[0]["image"])[None]}, np.arange(1))
    LatentSpace(network, one.shape[1:])  # Refuses what the codec cannot take.
    shape = jax.eval_shape(moments, one).shape[1:]
    return builder(name, sources, encode, shape, codec.fingerprint, data_dir, flips)
