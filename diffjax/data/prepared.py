"""Data sets prepared as array_record by TFDS, read without TensorFlow."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from diffjax.choices import unknown
from diffjax.data.builders import emoji
from diffjax.data.builders.base import CODEC, CONTENT, RecordBuilder, prepare
from diffjax.data.builders.digits import Digits
from diffjax.data.builders.shapes import SIDES, Shapes, folder_name
from diffjax.data.images import CORRUPT, decode
from diffjax.data.resize import center_crop_resize
from diffjax.data.schema import FLIPPED, DatasetInfo, Record
from diffjax.ranges import Channels, Pixels

# Sets that need nothing but this package (and `emoji` a font that the system has), and are prepared
# when first asked for.
EMBEDDED: Mapping[str, Callable[..., RecordBuilder]] = {
    "digits": Digits,
    **{folder_name(size): partial(Shapes, size=size) for size in SIDES},
    **{emoji.folder_name(size): partial(emoji.EmojiDrawings, size=size) for size in emoji.SIDES},
}


def default_data_dir() -> Path:
    """$DIFFJAX_DATA, or ~/.cache/diffjax/data."""
    return Path(os.environ.get("DIFFJAX_DATA") or "~/.cache/diffjax/data").expanduser()


class PreparedSource:
    """A split of a set in a TFDS data directory, its images decoded by Pillow when read.

    Args:
      name: `NAME`, `NAME/CONFIG`, `NAME:VERSION`; without a version the newest.
      split: `train`, `train[:80%]`, `train+test`, ...
      data_dir: by default `default_data_dir()`.
      size: pixels; images are cropped and resized to a square of it. None leaves them as they are.
      channels: 1 or 3; by default what the set declares.
      fields: of a record, besides the image, those that the set has.

    Raises:
      ValueError: no such set or split, or one in a format that needs TensorFlow.
    """

    def __init__(
        self,
        name: str,
        split: str = "train",
        data_dir: str | os.PathLike[str] | None = None,
        size: Pixels | None = None,
        channels: Channels | None = None,
        fields: tuple[str, ...] = ("label", "caption"),
    ):
        root = Path(data_dir).expanduser() if data_dir else default_data_dir()
        self.folder = _version_folder(root, name)
        builder: Any = tfds.builder_from_directory(self.folder)
        self._records = _open(builder, split, self.folder)
        features = dict(builder.info.features.items())
        shape = tuple(features["image"].shape)
        codec = (builder.info.metadata or {}).get(CODEC)
        if codec and (size or channels):
            raise ValueError(f"{self.folder}: a codec's moments have no size or channels to choose")
        self.size = size
        self.fields = tuple(fields)
        if codec:  # With it stands all else that frozen networks made of the pictures.
            self.fields += tuple(n for n in features if n not in ("image", "label", "caption"))
        self.channels = channels or (shape[-1] if shape[-1] in (1, 3) or codec else 3)
        label = features.get("label") if "label" in fields else None
        self._has_captions = "caption" in features and "caption" in fields
        self.info = DatasetInfo(
            name=name,
            split=split,
            num_examples=len(self._records),
            image_shape=shape if codec else (size or shape[0], size or shape[1], self.channels),
            num_classes=getattr(label, "num_classes", None) or 0,
            class_names=tuple(getattr(label, "names", None) or ()),
            fingerprint=_fingerprint(self.folder, split, builder.info, size, self.channels, fields),
            codec=codec,
            flipped=bool(codec) and FLIPPED in features,
        )

    def __len__(self) -> int:
        return self.info.num_examples

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.folder}: no record {index} among {len(self)}")
        stored = self._records[index]
        record: dict[str, Any] = {
            name: _plain(value) for name, value in stored.items() if name in self.fields
        }
        record["image"] = self._image(index, stored["image"])
        if self.info.num_classes and not 0 <= record["label"] < self.info.num_classes:
            raise ValueError(
                f"{self.folder}: record {index} has label {record['label']}, "
                f"outside [0, {self.info.num_classes})"
            )
        return record

    def read_captions(self) -> Iterator[tuple[str, str | list[str]]]:
        """See `captions.captions_of`; of each record the captions alone are decoded."""
        if not self._has_captions:
            return
        stored = self._records.data_source
        example: Any = tf_example_pb2.Example  # type: ignore[attr-defined]
        for start in range(0, len(self), 1024):
            indices = range(start, min(start + 1024, len(self)))
            for i, data in zip(indices, stored.__getitems__(list(indices)), strict=True):
                features = example.FromString(data).features
                texts = [t.decode() for t in features.feature["caption"].bytes_list.value]
                yield f"{self.folder}: record {i}", texts[0] if len(texts) == 1 else texts

    def _image(self, index: int, stored: Any) -> np.ndarray:
        if self.info.codec:
            return stored
        try:
            pixels = decode(stored, self.channels)
        except CORRUPT as error:
            raise ValueError(f"{self.folder}: record {index} is corrupt ({error})") from None
        return pixels if self.size is None else center_crop_resize(pixels, self.size)


def embedded(
    name: str, split: str, data_dir: str | os.PathLike[str] | None, **options: Any
) -> PreparedSource:
    """The set `name` of EMBEDDED, prepared in `data_dir` if it is not yet there; `options` are
    those of the PreparedSource."""
    root = Path(data_dir).expanduser() if data_dir else default_data_dir()
    prepare(lambda aside: EMBEDDED[name](data_dir=aside), name, root)
    return PreparedSource(name, split, root, **options)


def prepared_splits(name: str, data_dir: Path) -> list[str]:
    """The splits of a prepared set.

    Raises:
      ValueError: no such set.
    """
    builder: Any = tfds.builder_from_directory(_version_folder(data_dir, name))
    return list(builder.info.splits)


def _version_folder(root: Path, name: str) -> Path:
    """The folder of `name` in `root` that holds dataset_info.json."""
    base, _, version = name.partition(":")
    folder = root / base
    found = {p.parent.name: p.parent for p in folder.glob("*/dataset_info.json")}
    if not found:
        sets = sorted(d.name for d in root.glob("[!.]*/") if d.is_dir())
        raise ValueError(f"{folder}: no prepared data set there (sets in {root}: {sets})")
    if version and version not in found:
        raise unknown(f"version of {base!r}", version, found)
    return found[version or max(found, key=lambda v: [int(n) for n in v.split(".") if n.isdigit()])]


def _open(builder: Any, split: str, folder: Path) -> Any:
    """Random access to the stored records of `split`, images left encoded."""
    if builder.info.file_format.value != "array_record":
        raise ValueError(
            f"{folder}: stored as {builder.info.file_format.value}, which needs TensorFlow; "
            "prepare it again with file_format='array_record'"
        )
    if "image" not in builder.info.features:
        raise ValueError(f"{folder}: has no 'image' (fields: {', '.join(builder.info.features)})")
    moments = CODEC in (builder.info.metadata or {})
    decoders = {} if moments else {"image": tfds.decode.SkipDecoding()}
    try:
        records = builder.as_data_source(split=split, decoders=decoders)
    except (ValueError, KeyError, AssertionError):
        names = ", ".join(builder.info.splits)
        raise ValueError(f"{folder}: no split {split!r} (splits: {names})") from None
    if not len(records):
        raise ValueError(f"{folder}: split {split!r} is empty")
    return records


def _plain(value: Any) -> Any:
    """TFDS gives text as bytes, and several as a list or an array of them, even if it is one."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list) or (isinstance(value, np.ndarray) and value.dtype == object):
        texts = [_plain(text) for text in value]
        return texts[0] if len(texts) == 1 else texts
    return int(value) if isinstance(value, np.integer) else value


def _fingerprint(folder: Path, split: str, info: Any, *choices: Any) -> str:
    """Digest of the contents where the set carries one (ours do), else of its description."""
    content = folder / CONTENT
    described = (
        content.read_text()
        if content.exists()
        else json.dumps(
            [info.name, str(info.version), {k: s.shard_lengths for k, s in info.splits.items()}]
        )
    )
    return hashlib.sha256(f"{described} {split} {choices}".encode()).hexdigest()[:16]
