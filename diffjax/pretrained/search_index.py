"""Embeddings of a collection of images, kept in a file: only what is new or changed is encoded."""

from __future__ import annotations

import io
import os
import time
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import UnidentifiedImageError

from diffjax.data.folder_files import list_folder, open_file, shown
from diffjax.data.image_formats import usual_suffixes
from diffjax.data.images import CORRUPT, decode
from diffjax.data.schema import Source
from diffjax.train.writer import replace_file

CHUNK = 256  # images in memory at a time


class Collection(Protocol):
    """Images with names, in an order; equal stamps mean equal pixels."""

    name: str
    names: list[str]
    stamps: list[str]

    def pixels(self, index: int) -> np.ndarray:
        """`[H, W, 3] uint8`; raises one of CORRUPT."""
        ...


class Folder:
    """The images below a folder; `left_out` says what else is there.

    Raises:
      ValueError: no such folder, none in it, or a loop of links.
    """

    def __init__(self, folder: Path):
        listing = list_folder(folder)
        self.name, self._folder = str(folder), folder
        self._files, self.left_out = listing.images, listing.left_out()
        if not self._files:
            raise ValueError(f"{folder}: no images ({usual_suffixes()}) in it")
        self.names = [shown(file) for file in self._files]
        root = folder.resolve()
        self.stamps = [_stamp(root / file) for file in self._files]

    def pixels(self, index: int) -> np.ndarray:
        """See `Collection`."""
        with open_file(self._folder / self._files[index]) as file:
            return decode(file, 3)


def _stamp(file: Path) -> str:
    """A fingerprint that changes when the file does."""
    try:
        fact = file.stat()
    except OSError:  # A link to nothing, which is told of when it is read.
        return shown(file)
    return f"{shown(file)} {fact.st_size} {fact.st_mtime_ns}"


class Examples:
    """The images of a data source, named by their place in it."""

    def __init__(self, name: str, source: Source):
        self.name, self._source = name, source
        self.names = [f"{source.info.split} {i}" for i in range(len(source))]
        self.stamps = [f"{source.info.fingerprint} {i}" for i in range(len(source))]

    def pixels(self, index: int) -> np.ndarray:
        """See `Collection`."""
        image = np.asarray(self._source[index]["image"])
        return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


class Encoder(Protocol):
    """See `diffjax.pretrained.clip.Encoders`."""

    @property
    def fingerprint(self) -> str:
        """Equal for encoders that give the same images the same rows."""
        ...

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """Any image -> the tower's size."""
        ...

    def images(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        """Unit rows."""
        ...


@dataclass(frozen=True)
class Index:
    """An index that a search looks through.

    Attributes:
      embeddings: `[N, E] float32`, unit rows.
      places: `[N] int`, of the rows in the collection.
      skipped: (name, reason) of images that cannot be read.
      encoded: images that were encoded anew.
    """

    embeddings: np.ndarray
    places: np.ndarray
    skipped: tuple[tuple[str, str], ...]
    encoded: int


def index(
    collection: Collection, encoder: Encoder, cache: Path, say: Callable[[str], None] = print
) -> Index:
    """The embeddings of `collection` by `encoder`, out of `cache` as far as it has them.

    The cache is rewritten to hold what the collection now holds; one of other weights, or a damaged
    one, is replaced.

    Raises:
      ValueError: not one image can be read.
    """
    rows, reasons = _read(cache, encoder.fingerprint), {}
    held = set(rows)
    todo = [i for i, stamp in enumerate(collection.stamps) if stamp not in rows]
    begun = time.monotonic()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(todo), CHUNK):
            chunk = todo[start : start + CHUNK]
            got = list(pool.map(lambda i: _prepared(collection, encoder, i), chunk))
            reasons |= {i: x for i, x in zip(chunk, got, strict=True) if isinstance(x, str)}
            good = {i: x for i, x in zip(chunk, got, strict=True) if not isinstance(x, str)}
            if good:
                encoded = encoder.images(list(good.values()))
                rows |= {collection.stamps[i]: row for i, row in zip(good, encoded, strict=True)}
            done = start + len(chunk)
            rate = done / max(time.monotonic() - begun, 1e-9)
            say(f"indexed {done:,} of {len(todo):,} images, {rate:.0f} a second")
    skipped = tuple((collection.names[i], reason) for i, reason in reasons.items())
    found = [i for i in range(len(collection.stamps)) if i not in reasons]
    if not found:
        raise ValueError(
            f"{collection.name}: none of its {len(skipped)} images can be read, first "
            f"{skipped[0][0]} ({skipped[0][1]})"
        )
    stamps = [collection.stamps[i] for i in found]
    embeddings = np.stack([rows[stamp] for stamp in stamps])
    if held != set(stamps):
        _write(cache, encoder.fingerprint, stamps, embeddings)
    return Index(embeddings, np.asarray(found), skipped, len(todo) - len(skipped))


def _prepared(collection: Collection, encoder: Encoder, place: int) -> np.ndarray | str:
    """One image, or why it cannot be read."""
    try:
        return encoder.prepare(collection.pixels(place))
    except UnidentifiedImageError:
        return "no image of a kind that is known"
    except CORRUPT as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:100]}"


def _read(cache: Path, fingerprint: str) -> dict[str, np.ndarray]:
    """Stamp -> row; nothing of other weights, or out of a damaged file."""
    try:
        with np.load(cache, allow_pickle=False) as held:
            if str(held["encoder"]) != fingerprint:
                return {}
            return dict(zip(held["stamps"].tolist(), held["embeddings"], strict=True))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}


def _write(cache: Path, fingerprint: str, stamps: list[str], rows: np.ndarray) -> None:
    file = io.BytesIO()
    np.savez(file, encoder=np.array(fingerprint), stamps=np.array(stamps), embeddings=rows)
    cache.parent.mkdir(parents=True, exist_ok=True)
    replace_file(cache, file.getvalue())
