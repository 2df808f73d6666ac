"""The two sides of `experiments.fid`: what a name stands for, and what is already known of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from diffjax.data.arrays import ArraySource
from diffjax.data.captions import captions_of
from diffjax.data.folder import FolderSource
from diffjax.data.schema import Source
from diffjax.data.sources import make_source
from diffjax.evals.features import Extracted, FeatureExtractor
from diffjax.evals.processes import gather
from diffjax.evals.reference import Reference, check_protocol, read_reference, write_reference
from diffjax.evals.sides import FeatureSet, measure
from diffjax.fingerprints import short_hash

EMBEDDED = ("digits", "emoji", "shapes")


class ImageSet(NamedTuple):
    """One side of a comparison.

    Attributes:
      name: as it was given.
      source: its images; None where there are none.
      reference: what an `.npz` file holds; None for folders and data sets.
      content: digest of the file of a `reference`.
    """

    name: str
    source: Source | None
    reference: Reference | None = None
    content: str = ""


def open_set(name: str, channels: int) -> ImageSet:
    """A folder of images, an `.npz` file of statistics or images, or a data set `name[:split]`.

    Args:
      name: a path; or digits, emoji, shapes, or a prepared set, by default its split `train`.
      channels: that the images of a folder are brought to.

    Raises:
      ValueError: none of these is there; a corrupt image, one line says which.
    """
    path = Path(name)
    if path.is_dir():
        return ImageSet(name, FolderSource(path, channels=channels, labels=False))
    if path.suffix == ".npz":
        reference = read_reference(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:10]
        images = reference.images
        source = None if images is None else ArraySource(images, name=path.name)
        return ImageSet(name, source, reference, digest)
    base, _, split = name.partition(":")
    if "/" in name or not base:
        raise ValueError(f"{name}: no such folder or .npz file")
    if base in EMBEDDED:
        return ImageSet(name, make_source(base, split=split or "train"))
    try:
        return ImageSet(name, make_source("tfds", name=base, split=split or "train"))
    except ValueError as error:
        raise ValueError(f"{name}: no folder, no .npz file, and no data set: {error}") from error


def side_of(
    images: ImageSet,
    extract: FeatureExtractor | None,
    how: Mapping[str, Any],
    keep_rows: bool,
    cache: Path | None,
    say: Callable[[int], None],
) -> FeatureSet:
    """The features of `images`, out of the cache, from its images, or its statistics alone.

    Args:
      extract: None where no side has images.
      how: the protocol of `extract`.
      keep_rows: whether the features themselves are needed.

    Raises:
      ValueError: images without an extractor, or of other channels than it takes; statistics of
        another protocol.
    """
    stated = images.reference is not None and images.reference.moments is not None
    if images.source is None or (stated and not keep_rows):
        return _stated(images, how)
    if extract is None:
        raise ValueError(
            f"{images.name} holds images: give --weights, InceptionV3 as pytorch-fid or "
            "torch-fidelity publish it"
        )
    # Grey images become three equal channels where images are resized.
    channels = images.source.info.image_shape[2]
    if channels != extract.channels and (channels != 1 or not extract.takes_grey):
        raise ValueError(
            f"{images.name} has images of {channels} channels, but {extract.name} takes "
            f"{extract.channels}"
        )
    key = short_hash([images.source.info.fingerprint, dict(how)])
    file = None if cache is None else cache / f"{key}.npz"
    side = _cached(file, images, keep_rows)
    if side is None:
        side = measure(images.name, images.source, extract, keep_rows, say)
        if file is not None and jax.process_index() == 0:
            _store(file, side, how)
    if stated:
        # guided-diffusion's references: moments of all images, and some of them to draw rows from.
        return replace(_stated(images, how), rows=side.rows)
    return side


def _stated(images: ImageSet, how: Mapping[str, Any]) -> FeatureSet:
    reference = images.reference
    assert reference is not None
    check_protocol(images.name, reference, how)
    return FeatureSet(images.name, images.content, reference.moments, reference.spatial)


def _rows_file(file: Path) -> Path:
    return file.with_suffix(".rows.npz")


def _cached(file: Path | None, images: ImageSet, keep_rows: bool) -> FeatureSet | None:
    """The side that an earlier call has kept; None where it is not there for every process."""
    there = file is not None and file.exists() and (not keep_rows or _rows_file(file).exists())
    if not all(int(x[0]) for x in gather(np.asarray([int(there)]))):
        return None
    assert file is not None and images.source is not None
    held, rows = read_reference(file), None
    if keep_rows:
        with np.load(_rows_file(file), allow_pickle=False) as opened:
            rows = Extracted(opened["features"], opened.get("logits"))
    content = images.source.info.fingerprint
    return FeatureSet(images.name, content, held.moments, held.spatial, rows)


def _store(file: Path, side: FeatureSet, how: Mapping[str, Any]) -> None:
    """Keeps a side; a file appears whole or not at all."""
    assert side.moments is not None
    file.parent.mkdir(parents=True, exist_ok=True)
    if side.rows is not None:
        rows: dict[str, Any] = {"features": side.rows.features}
        rows |= {} if side.rows.logits is None else {"logits": side.rows.logits}
        temporary = file.with_suffix(f".{os.getpid()}.rows")
        with open(temporary, "wb") as opened:
            np.savez(opened, **rows)
        temporary.replace(_rows_file(file))
    temporary = file.with_suffix(f".{os.getpid()}.moments")
    write_reference(temporary, side.moments, side.spatial, protocol=how)
    temporary.replace(file)


def captions(source: Source, name: str) -> list[str]:
    """The caption of every image, the first where there are several.

    Raises:
      ValueError: images without captions.
    """
    found = [c if isinstance(c, str) else c[0] for _, c in captions_of(source)]
    if not found:
        raise ValueError(f"clip_score compares images with captions; {name} has none")
    return found


def images_of(images: ImageSet | None) -> np.ndarray:
    """All images of a set, `[N, H, W, C] uint8`, to be saved with its statistics.

    Raises:
      ValueError: no set of images, or images of several sizes.
    """
    if images is None or images.source is None or None in images.source.info.image_shape:
        raise ValueError("--save_images needs a reference of images of one size")
    return np.stack([images.source[i]["image"] for i in range(len(images.source))])
