"""Data held in memory, and the columns of any source: the fast path of small sets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np

from diffjax.data.schema import FLIPPED, Columns, DatasetInfo, Record, Source, check_labels
from diffjax.ranges import Classes, Whole

CACHE_BYTES = 512 * 2**20


class ArraySource:
    """Images in memory, read a batch at a time by one gather.

    Args:
      image: `[N, H, W, C] uint8`; float32 of a codec's moments, `[N, E]` of embeddings.
      label: `[N] int` or None.
      caption: N captions (or lists of them) or None.
      others: further numeric fields, `[N, ...]` each.
      name, split, class_names, num_classes, fingerprint, codec: of the `DatasetInfo`; by default
        `num_classes` is the number of `class_names`, or else one more than the largest label, and
        the fingerprint a digest of the contents.
    """

    def __init__(
        self,
        image: np.ndarray,
        label: np.ndarray | Sequence[Whole] | None = None,
        caption: Sequence[str | list[str]] | None = None,
        others: Mapping[str, np.ndarray] | None = None,
        *,
        name: str = "array",
        split: str = "train",
        class_names: Sequence[str] = (),
        num_classes: Classes | None = None,
        fingerprint: str | None = None,
        codec: str | None = None,
    ):
        image = np.asarray(image)
        kind = np.uint8 if codec is None else np.float32
        # Of what a network made of images, embeddings have no places.
        if image.ndim not in ((4,) if codec is None else (2, 4)) or image.dtype != kind:
            raise ValueError(
                f"{name}: images must be {kind.__name__} [N, H, W, C], not {image.dtype} "
                f"{list(image.shape)}"
            )
        if not len(image):
            raise ValueError(f"{name}: no images")
        self.columns: Columns = {"image": image}
        if label is not None:
            labels = np.asarray(label, np.int32)
            if num_classes is None:
                num_classes = len(class_names) or int(labels.max(initial=-1)) + 1
            check_labels(labels, num_classes, name)
            self.columns["label"] = labels
        if caption is not None:
            self.columns["caption"] = list(caption)
        self.columns.update(others or {})
        for field, column in self.columns.items():
            if len(column) != len(image):
                raise ValueError(f"{name}: {len(image)} images but {len(column)} of {field!r}")
        self.info = DatasetInfo(
            name=name,
            split=split,
            num_examples=len(image),
            image_shape=image.shape[1:],
            num_classes=num_classes or 0,
            class_names=tuple(class_names),
            fingerprint=fingerprint or digest(self.columns),
            codec=codec,
            flipped=codec is not None and FLIPPED in self.columns,
        )

    def __len__(self) -> int:
        return self.info.num_examples

    def __getitem__(self, index: int) -> Record:
        return {name: column[index] for name, column in self.columns.items()}

    def read_captions(self) -> Iterator[tuple[str, str | list[str]]]:
        """See `captions.captions_of`."""
        for i, caption in enumerate(self.columns.get("caption", ())):
            yield f"{self.info.name}: record {i}", caption

    def gather(self, indices: np.ndarray) -> Columns:
        """The records at `indices [B] int`, as columns."""
        return {
            name: c[indices] if isinstance(c, np.ndarray) else [c[i] for i in indices]
            for name, c in self.columns.items()
        }


def digest(columns: Columns) -> str:
    """Hex digest of the contents of `columns`, 16 characters."""
    sha = hashlib.sha256()
    for name, column in sorted(columns.items()):
        is_array = isinstance(column, np.ndarray)
        sha.update(f"{name} {column.shape} {column.dtype}".encode() if is_array else name.encode())
        sha.update(np.ascontiguousarray(column).data if is_array else repr(column).encode())
    return sha.hexdigest()[:16]


def read(source: Source, indices: np.ndarray, threads: int = 0) -> Columns:
    """The records of `source` at `indices [B] int`, as columns; images of one size are stacked."""
    if isinstance(source, ArraySource):
        return source.gather(indices)
    if threads:
        with ThreadPoolExecutor(threads) as pool:
            records = list(pool.map(lambda i: source[int(i)], indices))
    else:
        records = [source[int(i)] for i in indices]
    columns: Columns = {name: [r[name] for r in records] for name in records[0]}
    columns["image"] = stack(columns["image"])
    for name, column in columns.items():
        if isinstance(column, list) and isinstance(column[0], (int, np.integer)):
            columns[name] = np.asarray(column, np.int32)
        elif isinstance(column, list) and isinstance(column[0], (float, np.floating)):
            columns[name] = np.asarray(column, np.float32)
        elif name != "image" and isinstance(column, list) and isinstance(column[0], np.ndarray):
            columns[name] = np.stack(column)
    return columns


def stack(images: list[np.ndarray]) -> np.ndarray | list[np.ndarray]:
    """`[B, H, W, C]` if all images are of one shape, else the list as it is."""
    return np.stack(images) if len({i.shape for i in images}) == 1 else images


def cached(source: Source, cache: bool | Literal["auto"] = "auto") -> Source:
    """`source` decoded into memory: always (True), never (False), or if under CACHE_BYTES."""
    if not cache or isinstance(source, ArraySource):
        return source
    info = source.info
    fixed = None not in info.image_shape
    if cache == "auto":
        size = info.num_examples * int(np.prod([s or 0 for s in info.image_shape]))
        size *= (4 if info.codec else 1) * (2 if info.flipped else 1)
        if not fixed or size > CACHE_BYTES:
            return source
    if not fixed:
        raise ValueError(f"{info.name}: images differ in size, so they cannot be cached; set size")
    columns = read(source, np.arange(len(source)), threads=4)
    return ArraySource(
        columns.pop("image"),
        columns.pop("label", None),
        columns.pop("caption", None),
        columns,
        name=info.name,
        split=info.split,
        class_names=info.class_names,
        num_classes=info.num_classes,
        fingerprint=info.fingerprint,
        codec=info.codec,
    )
