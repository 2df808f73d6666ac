"""Generated scenes as a source, without preparing the set of them on disk, and as columns."""

from collections.abc import Iterable

import numpy as np

from diffjax.data.arrays import ArraySource
from diffjax.data.builders.shapes import folder_name, render
from diffjax.data.factors import FIELDS, PAIR_NAMES, Scene


def scenes(split: str = "train", count: int = 64, size: int = 32) -> ArraySource:
    """The first `count` records of a split of `shapes`, of `size` pixels."""
    columns = render(split, np.arange(count), size)
    return ArraySource(
        columns.pop("image"),
        columns.pop("label"),
        columns.pop("caption"),
        columns,
        name=folder_name(size),
        split=split,
        class_names=PAIR_NAMES,
    )


def to_columns(scenes: Iterable[Scene]) -> dict[str, np.ndarray]:
    """FIELDS of `scenes`, `num_objects [N]`, `shape [N, 2]`, ...; -1 where there is none."""
    scenes = list(scenes)
    columns = {k: np.full((len(scenes), *shape), -1, np.int32) for k, shape in FIELDS.items()}
    for i, scene in enumerate(scenes):
        columns["num_objects"][i] = len(scene.things)
        columns["relation"][i] = scene.relation
        columns["background"][i] = scene.background
        for j, thing in enumerate(scene.things):
            columns["shape"][i, j] = thing.shape
            columns["colour"][i, j] = thing.colour
            columns["size"][i, j] = thing.size
    return columns
