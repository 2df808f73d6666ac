"""Generated scenes with captions and their true factors: one or two shapes on a plain ground.

Three splits. `train` and `test` never show the pairs of shape and colour in `held_out_pairs`; in
`compositions` the first object always is one of them, so what a model makes of it was composed
and not remembered. A scene is a function of (SEED, split, index), whatever else is drawn.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from diffjax.data import factors
from diffjax.data.arrays import digest
from diffjax.data.builders.base import RecordBuilder, image_features
from diffjax.data.draws import Draws
from diffjax.data.images import png
from diffjax.data.scenes import Geometry, arrange, draw

SEED = 0
SPLITS = {"train": 12_000, "test": 1_500, "compositions": 1_500}
SIDES = (32, 64)


def sample(
    split: str, indices: np.ndarray, seed: int = SEED
) -> tuple[dict[str, np.ndarray], Geometry]:
    """(factors, geometry) of the scenes at `indices [N] int` of `split`, each by its own draws.

    The first object goes through the split's pairs in turn, so every part of a split shows them
    equally often; everything else is drawn evenly. Two objects differ in shape or colour.
    """
    u = Draws.at(seed, np.asarray(indices, np.int64)).stream(f"shapes {split}")
    first = factors.shown_pairs() if split != "compositions" else factors.held_out_pairs()
    pairs = factors.shown_pairs() if split != "compositions" else np.arange(len(factors.PAIR_NAMES))
    one = first[np.asarray(indices) % len(first)]
    # Any pair but the first: a step of 1 to P - 1 places round the list.
    place = np.searchsorted(pairs, one) + u.integers("second pair", 1, len(pairs))
    two = pairs[place % len(pairs)]
    count = u.integers("num_objects", 1, 3)
    alone = count == 1
    shape, colour = np.divmod(np.stack([one, two], 1), len(factors.COLOURS))
    size = np.stack([u.integers(f"size {j}", 0, len(factors.SIZES)) for j in range(2)], 1)
    relation = u.integers("relation", 0, len(factors.RELATIONS))
    for column in (shape, colour, size):
        column[alone, 1] = -1
    columns = {
        "num_objects": count,
        "shape": shape,
        "colour": colour,
        "size": size,
        "relation": np.where(alone, -1, relation),
        "background": u.integers("background", 0, len(factors.BACKGROUNDS)),
    }
    columns = {name: column.astype(np.int32) for name, column in columns.items()}
    return columns, arrange(columns, u)


def render(split: str, indices: np.ndarray, side: int = 32, seed: int = SEED) -> dict[str, Any]:
    """`sample`d factors and their `image [N, side, side, 3] uint8`, `label [N]` and `caption`."""
    columns, geometry = sample(split, indices, seed)
    return {
        "image": draw(columns, geometry, side),
        "label": columns["shape"][:, 0] * len(factors.COLOURS) + columns["colour"][:, 0],
        "caption": [factors.captions(factors.scene_at(columns, i)) for i in range(len(indices))],
        **columns,
    }


class Shapes(RecordBuilder):
    """The set, registered with TFDS as `shapes`: `shapes` at 32 pixels, `shapes64` at 64."""

    def __init__(
        self, *, size: int = 32, data_dir: str | os.PathLike[str] | None = None, **options: Any
    ):
        splits = {split: render(split, np.arange(n), size) for split, n in SPLITS.items()}

        def records(split: str) -> Iterator[dict[str, Any]]:
            columns = splits[split]
            for i, image in enumerate(columns["image"]):
                yield {name: c[i] for name, c in columns.items()} | {"image": png(image)}

        features = image_features((size, size, 3), factors.PAIR_NAMES, caption=True)
        features |= {
            name: tfds.features.Tensor(shape=shape, dtype=np.int32)
            for name, shape in factors.FIELDS.items()
        }
        super().__init__(
            name=folder_name(size),
            records={split: lambda split=split: records(split) for split in splits},
            fingerprints={split: digest(columns) for split, columns in splits.items()},
            features=features,
            data_dir=data_dir,
            description=f"generated scenes of one or two shapes, {size} x {size}, with captions",
            **options,
        )


def folder_name(size: int) -> str:
    """The name of the set of `size` pixels."""
    return "shapes" if size == 32 else f"shapes{size}"
