"""Generated scenes as a source, without preparing the set of them on disk."""

import numpy as np

from diffjax.data.arrays import ArraySource
from diffjax.data.builders.shapes import render
from diffjax.data.factors import PAIR_NAMES


def scenes(split: str = "train", count: int = 64) -> ArraySource:
    """The first `count` records of a split of `shapes`."""
    columns = render(split, np.arange(count))
    return ArraySource(
        columns.pop("image"),
        columns.pop("label"),
        columns.pop("caption"),
        columns,
        name="shapes",
        split=split,
        class_names=PAIR_NAMES,
    )
