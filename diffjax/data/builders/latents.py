"""Moments and embeddings of images as array_record: encoded once, read at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from diffjax.data.arrays import read
from diffjax.data.builders.base import RecordBuilder, image_features
from diffjax.data.schema import Columns, Source

_AT_ONCE = 64


def builder(
    name: str,
    sources: Mapping[str, Source],
    encode: Callable[[Columns, np.ndarray], Mapping[str, np.ndarray]],
    shapes: Mapping[str, tuple[int, ...]],
    codec: str,
    made_by: str,
    data_dir: Path,
) -> RecordBuilder:
    """The builder of a set whose `image`s are a codec's moments, or embeddings; labels and captions
    stay as they are.

    A record takes 4 h w C bytes, twice that with `flips`: at 32 x 32 x 8, 32 KiB or 64 KiB, so
    42 GB or 84 GB for ImageNet's 1.28 million.

    Args:
      name: of the set.
      sources: split -> the images.
      encode: `(columns, indices [B])` -> float32 arrays of the examples there, by field: `image`,
        perhaps `FLIPPED`, the moments of their mirror images, and embeddings.
      shapes: of one of each.
      codec: fingerprint of what made `image`, kept with the data.
      made_by: fingerprint of all that made the fields.
      data_dir: where it is written.
    """
    first = next(iter(sources.values()))
    info, one = first.info, first[0]

    def records(source: Source) -> Iterator[dict[str, Any]]:
        for start in range(0, len(source), _AT_ONCE):
            indices = np.arange(start, min(start + _AT_ONCE, len(source)))
            columns = read(source, indices)
            moments = encode(columns, indices)
            for i in range(len(indices)):
                record: dict[str, Any] = {
                    field: np.asarray(kept[i], np.float32) for field, kept in moments.items()
                }
                if info.num_classes:
                    record["label"] = int(columns["label"][i])
                if "caption" in columns:
                    said = columns["caption"][i]
                    record["caption"] = [said] if isinstance(said, str) else said
                yield record

    features = image_features((None, None, 3), info.class_names, info.num_classes, "caption" in one)
    for field, shape in shapes.items():
        features[field] = tfds.features.Tensor(shape=shape, dtype=np.float32, encoding="bytes")
    return RecordBuilder(
        name=name,
        records={split: lambda s=source: records(s) for split, source in sources.items()},
        fingerprints={split: f"{s.info.fingerprint} {made_by}" for split, s in sources.items()},
        features=features,
        data_dir=data_dir,
        description=f"{', '.join(shapes)} of {info.name} by {codec}",
        codec=codec,
    )
