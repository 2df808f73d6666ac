"""Real handwritten digits, 8 x 8 pixels, that need no network: scikit-learn's `load_digits`.

1,797 grey images of 17 levels, the test part of the UCI "Optical Recognition of Handwritten
Digits" set (Alpaydin and Kaynak 1998). We split them 1,500 / 297, stratified by class, by a
shuffle that never changes. So both parts show the same writers: the held-out digits are a fair
sample of the training distribution, as a Frechet distance needs, and no test of new handwriting
(the last 297 in scikit-learn's order would be).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from diffjax.data.arrays import digest
from diffjax.data.builders.base import RecordBuilder, image_features
from diffjax.data.images import png

TEST = 297
SPLIT_SEED = 0
CLASS_NAMES = tuple("0123456789")
_LEVELS = 16


def to_uint8(levels: np.ndarray) -> np.ndarray:
    """Ink 0..16 to 0..255, rounded: 0 is black, 16 is white, and no two are one."""
    return np.rint(np.asarray(levels) * (255 / _LEVELS)).astype(np.uint8)


def split_indices(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Indices of `train` and `test`, sorted, stratified by `labels [N]`.

    Each class gives its share of TEST, rounded down; the largest remainders give one more. The
    shuffle sorts by a hash, so that no version of a random generator can change it.
    """
    hashes = [hashlib.sha256(f"{SPLIT_SEED}:{i}".encode()).hexdigest() for i in range(len(labels))]
    classes, counts = np.unique(labels, return_counts=True)
    share = counts * TEST / len(labels)
    take = np.floor(share).astype(int)
    take[np.argsort(-(share - take), kind="stable")[: TEST - take.sum()]] += 1
    chosen = [
        sorted(np.flatnonzero(labels == c), key=lambda i: hashes[i])[:k]
        for c, k in zip(classes, take, strict=True)
    ]
    test = np.sort(np.concatenate(chosen))
    return {"train": np.setdiff1d(np.arange(len(labels)), test), "test": test}


class Digits(RecordBuilder):
    """The set, registered with TFDS as `digits`."""

    def __init__(self, *, data_dir: str | os.PathLike[str] | None = None, **options: Any):
        bunch: Any = load_digits()
        pixels, labels = to_uint8(bunch.images)[..., None], bunch.target.astype(np.int32)
        splits = split_indices(labels)

        def records(split: str) -> Iterator[dict[str, Any]]:
            for i in splits[split]:
                yield {"image": png(pixels[i]), "label": int(labels[i])}

        super().__init__(
            records={split: lambda split=split: records(split) for split in splits},
            fingerprints={
                split: digest({"image": pixels[i], "label": labels[i]})
                for split, i in splits.items()
            },
            features=image_features((8, 8, 1), CLASS_NAMES),
            data_dir=data_dir,
            description="scikit-learn's 1,797 handwritten digits, 1,500 / 297, stratified",
            **options,
        )
