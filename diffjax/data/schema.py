"""Data sets: their description, their records, and the columns of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

# `image` uint8 [H, W, C]; `label` int; `caption` str, or list[str] where there are several.
# A source may lack labels or captions, then for every record; other numeric fields may follow.
Record = Mapping[str, Any]

# Of a codec's moments: those of the mirrored picture, see `DatasetInfo.flipped`.
FLIPPED = "flipped"

# A batch of records, field by field. `image` is an array [B, H, W, C], or a list of [H, W, C]
# where sizes differ; `label` [B] int32; strings stay lists.
Columns = dict[str, Any]


@dataclass(frozen=True)
class DatasetInfo:
    """Description of one split.

    Attributes:
      name: of the data set.
      split: as asked for, `train`, `train[:80%]`, ...
      num_examples: records in the split.
      image_shape: (height, width, channels); None for a side that differs between images; (E,) of
        embeddings in their place.
      num_classes: labels lie in [0, num_classes); 0 where there are no labels.
      class_names: one per class, or empty.
      fingerprint: a digest that changes when the data do.
      codec: fingerprint of the codec whose moments, or of the tower whose embeddings, float32,
        stand in place of the images; None for images.
      flipped: whether records also hold, as `FLIPPED`, the moments of the picture's mirror image,
        which is not the mirror image of its moments.
    """

    name: str
    split: str
    num_examples: int
    image_shape: tuple[int | None, ...]
    num_classes: int
    class_names: tuple[str, ...]
    fingerprint: str
    codec: str | None = None
    flipped: bool = False


@runtime_checkable
class Source(Protocol):
    """Random access to the records of one split, in an order that never changes."""

    @property
    def info(self) -> DatasetInfo: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...


def check_same_classes(train: DatasetInfo, other: DatasetInfo) -> None:
    """Raises ValueError where `other` names other classes than `train`, or in another order: its
    labels would mean something else."""
    ours, theirs = train.class_names, other.class_names
    if ours and theirs and ours != theirs:
        odd = sorted(set(ours) ^ set(theirs)) or ["their order"]
        raise ValueError(
            f"{other.name} ({other.split}) and {train.name} ({train.split}) differ in their "
            f"classes: {', '.join(odd[:5])}; set class_names of both to the same"
        )


def check_labels(labels: np.ndarray, num_classes: int, where: str) -> None:
    """Raises ValueError unless every one of `labels [N] int` lies in [0, num_classes)."""
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if wrong.size:
        i = int(wrong[0])
        raise ValueError(
            f"{where}: record {i} has label {int(labels[i])}, outside [0, {num_classes})"
        )
