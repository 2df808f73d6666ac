"""A folder of images as a source; every image is checked before training begins."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np

from diffjax.data.folder_files import open_file, read_file, shown
from diffjax.data.folder_index import FolderIndex, index_folder
from diffjax.data.folder_table import Entry
from diffjax.data.images import CORRUPT, decode, reason
from diffjax.data.resize import center_crop_resize
from diffjax.data.schema import DatasetInfo, Record, check_labels
from diffjax.ranges import Channels, Classes, Pixels


class FolderSource:
    """Images of a folder (see `folder_index` for its layouts), decoded when read.

    Each is decoded once at the start, so that a corrupt one is found now and not in the night;
    write a large folder as array_record (`experiments.prepare_data`) to pay for that once.

    Args:
      path: the folder.
      split: a folder inside it, or None if there are no splits.
      size: pixels; images are cropped and resized to a square of it. None leaves them as they are.
      channels: 1 or 3; images of other modes are converted, transparent ones laid over white.
      num_classes: by default what the labels show.
      on_corrupt: "error", or "skip" to leave such images out; `skipped` holds them with the reason.
      labels: False reads the images, and their captions, without labels.
      class_names: the classes in the order of their labels; by default those that the folder
        shows, sorted. It keeps a class's label where a split lacks another class.

    Raises:
      ValueError: a missing split, an empty folder, a corrupt image, a label out of range, and
        whatever `folder_index` refuses.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str | None = None,
        size: Pixels | None = None,
        channels: Channels = 3,
        num_classes: Classes | None = None,
        on_corrupt: Literal["error", "skip"] = "error",
        labels: bool = True,
        class_names: tuple[str, ...] | None = None,
    ):
        if on_corrupt not in ("error", "skip"):
            raise ValueError(f"on_corrupt must be 'error' or 'skip', not {on_corrupt!r}")
        if channels not in (1, 3):
            raise ValueError(f"{path}: images have 1 or 3 channels, not {channels}")
        self.folder = _split_folder(Path(path).expanduser(), split)
        self.size = size
        self.channels = channels
        index = index_folder(self.folder, labels, class_names)
        for line in index.left_out:
            logging.warning("%s: %s", self.folder, line)
        good, self.skipped, shapes, sha = _checked(
            self.folder, index, lambda entry: self.pixels(entry), on_corrupt
        )
        self.entries = good
        shape = tuple(s.pop() if len(s) == 1 else None for s in map(set, zip(*shapes, strict=True)))
        numbers = np.array([e.label for e in good if e.label is not None], np.int64)
        classes = num_classes or len(index.class_names) or int(numbers.max(initial=-1)) + 1
        check_labels(numbers, classes, str(self.folder))
        self.info = DatasetInfo(
            name=Path(path).name,
            split=split or "all",
            num_examples=len(good),
            image_shape=(shape[0], shape[1], channels),
            num_classes=classes,
            class_names=index.class_names,
            fingerprint=hashlib.sha256(f"{sha} {size} {channels}".encode()).hexdigest()[:16],
        )

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Record:
        entry = self.entries[index]
        record: dict[str, object] = {"image": self.pixels(entry)}
        if entry.label is not None:
            record["label"] = entry.label
        if entry.caption is not None:
            record["caption"] = entry.caption
        return record

    def read_captions(self) -> Iterator[tuple[str, str | list[str]]]:
        """See `captions.captions_of`; no image is read."""
        for entry in self.entries:
            if entry.caption is not None:
                yield entry.where, entry.caption

    def data(self, entry: Entry) -> bytes:
        """The file of `entry` as it is."""
        return read_file(self.folder / entry.file)

    def pixels(self, entry: Entry) -> np.ndarray:
        """`[H, W, C] uint8` of `entry`, `size` pixels if that is set."""
        with open_file(self.folder / entry.file) as file:
            pixels = decode(file, self.channels)
        return pixels if self.size is None else center_crop_resize(pixels, self.size)


def _split_folder(folder: Path, split: str | None) -> Path:
    if split is None:
        return folder
    if Path(split).is_absolute() or ".." in Path(split).parts:
        raise ValueError(f"{folder}: split {split!r} leaves the folder")
    if not (folder / split).is_dir():
        found = sorted(d.name for d in folder.glob("*/")) if folder.is_dir() else []
        raise ValueError(f"{folder}: no split {split!r} (folders there: {', '.join(found)})")
    return folder / split


def _checked(
    folder: Path,
    index: FolderIndex,
    pixels: Callable[[Entry], np.ndarray],
    on_corrupt: str,
) -> tuple[tuple[Entry, ...], tuple[tuple[str, str], ...], list[tuple[int, ...]], str]:
    """(good entries, (file, reason) of the others, shapes of the good, digest of the good)."""

    def check(entry: Entry) -> tuple[tuple[int, ...] | None, str]:
        try:
            shape = pixels(entry).shape[:2]
            with open_file(folder / entry.file) as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            return shape, f"{entry} {content}"
        except CORRUPT as error:
            return None, reason(error)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = list(pool.map(check, index.entries))
    good, skipped, shapes = [], [], []
    sha = hashlib.sha256(repr(index.class_names).encode())
    for entry, (shape, note) in zip(index.entries, results, strict=True):
        if shape is not None:
            good.append(entry)
            shapes.append(shape)
            sha.update(note.encode())
        elif on_corrupt == "error":
            raise ValueError(
                f"{shown(folder / entry.file)}: corrupt image ({note}); remove it, or set "
                "on_corrupt='skip'"
            )
        else:
            skipped.append((entry.file, note))
    if not good:
        file, note = skipped[0]
        raise ValueError(
            f"{folder}: all {len(skipped)} images are corrupt, first {shown(file)} ({note})"
        )
    if skipped:
        names = ", ".join(shown(file) for file, _ in skipped[:5])
        more = ", ..." if len(skipped) > 5 else ""
        logging.warning(
            "%s: skipped %d of %d images, corrupt: %s%s (the first: %s)",
            *(folder, len(skipped), len(results), names, more, skipped[0][1]),
        )
    return tuple(good), tuple(skipped), shapes, sha.hexdigest()
