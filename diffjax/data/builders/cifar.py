"""CIFAR-10 and CIFAR-100 from the archives that their author distributes, given by path.

The binary version, never the Python one: that is made of pickles, which run what they like when
opened. https://www.cs.toronto.edu/~kriz/cifar.html describes the layout: one record is the label
bytes, then 1,024 red, 1,024 green and 1,024 blue bytes, row by row.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.data.builders.base import RecordBuilder, image_features
from diffjax.data.images import png

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Layout:
    """The layout of an archive.

    Attributes:
      folder: of the archive.
      splits: split -> files.
      names: file with one class name a line.
      label_bytes: before each image; the last is the label.
      sha256: of the archive as distributed.
    """

    folder: str
    splits: dict[str, tuple[str, ...]]
    names: str
    label_bytes: int
    sha256: str


LAYOUTS = {
    "cifar10": Layout(
        folder="cifar-10-batches-bin",
        splits={
            "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
            "test": ("test_batch.bin",),
        },
        names="batches.meta.txt",
        label_bytes=1,
        sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
    "cifar100": Layout(
        folder="cifar-100-binary",
        splits={"train": ("train.bin",), "test": ("test.bin",)},
        names="fine_label_names.txt",
        label_bytes=2,
        sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    ),
}


def check_sha256(archive: Path, expected: str) -> None:
    """Raises ValueError unless `archive` is the file that `expected` is the SHA-256 of."""
    if not archive.is_file():
        raise ValueError(f"{archive}: no such file")
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ValueError(
            f"{archive}: SHA-256 is {found}, not {expected}; download the binary version again"
        )


def builder(name: str, archive: Path, data_dir: Path, sha256: str | None = None) -> RecordBuilder:
    """The builder of `name`, one of LAYOUTS, from its `archive` (tar.gz).

    `sha256` replaces the distributed archive's, for one that was packed again.
    """
    layout = LAYOUTS[name]
    expected = sha256 or layout.sha256
    check_sha256(archive, expected)
    class_names = tuple(_read(archive, layout.folder, layout.names).decode().split())

    def records(split: str) -> Iterator[dict[str, Any]]:
        for file in layout.splits[split]:
            data = _read(archive, layout.folder, file)
            labels, images = parse(data, layout.label_bytes, f"{archive}: {file}")
            for label, image in zip(labels, images, strict=True):
                yield {"image": png(image), "label": int(label)}

    return RecordBuilder(
        name=name,
        records={split: lambda split=split: records(split) for split in layout.splits},
        fingerprints={split: f"{expected[:16]}-{split}" for split in layout.splits},
        features=image_features((32, 32, 3), class_names),
        data_dir=data_dir,
        description=f"{name}, binary version, archive SHA-256 {expected}",
    )


def parse(data: bytes, label_bytes: int, where: str) -> tuple[np.ndarray, np.ndarray]:
    """(labels `[N] uint8`, images `[N, 32, 32, 3] uint8`) of one file of records."""
    size = label_bytes + _PIXELS
    if not data or len(data) % size:
        raise ValueError(f"{where}: {len(data)} bytes are not records of {size}")
    rows = np.frombuffer(data, np.uint8).reshape(-1, size)
    planes = rows[:, label_bytes:].reshape(-1, 3, 32, 32)
    return rows[:, label_bytes - 1], np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def _read(archive: Path, folder: str, file: str) -> bytes:
    """One file of the archive, read in memory: nothing is ever extracted to disk."""
    with tarfile.open(archive, "r:gz") as tar:
        try:
            member = tar.extractfile(f"{folder}/{file}")
        except KeyError:
            member = None
        if member is None:
            raise ValueError(f"{archive}: holds no {folder}/{file}; is it the binary version?")
        return member.read()
