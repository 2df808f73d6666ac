"""A TFDS builder for records made in Python, written as array_record without TensorFlow."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

VERSION = "1.0.0"
CONTENT = "content.json"  # Beside dataset_info.json: split -> fingerprint of its records.
CODEC = "codec"  # Key of the metadata: whose moments the images are.

# A record as stored: `image` an encoded file (bytes), `label` int, `caption` str.
Records = Callable[[], Iterator[dict[str, Any]]]


class RecordBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Writes splits of records, in their order.

    Args:
      name: of the data set, and of its folder; by default the class's.
      records: split -> function giving its records.
      fingerprints: split -> digest of its contents, kept with the data.
      features: of a record.
      data_dir: where the data set's folder is made.
      description: one line, kept with the data.
      codec: fingerprint of the codec whose moments the `image`s are; None for pictures.
      options: of TFDS's own builders.

    A subclass with a name of its own is registered with TFDS; sets made at run time are not.
    """

    VERSION = tfds.core.Version(VERSION)

    def __init__(
        self,
        *,
        name: str | None = None,
        records: Mapping[str, Records],
        fingerprints: Mapping[str, str],
        features: Mapping[str, Any],
        data_dir: str | os.PathLike[str] | None,
        description: str,
        codec: str | None = None,
        **options: Any,
    ):
        self._codec = codec
        self.name = name or self.name  # type: ignore[misc]
        self._records = records
        self._features = features
        self._about = description
        self.fingerprints = dict(fingerprints)
        super().__init__(**{"data_dir": data_dir, "file_format": "array_record", **options})

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self._about,
            features=tfds.features.FeaturesDict(dict(self._features)),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict({CODEC: self._codec} if self._codec else {}),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in self._records}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from enumerate(self._records[split]())


def image_features(
    shape: tuple[int | None, int | None, int],
    class_names: tuple[str, ...] = (),
    num_classes: int = 0,
    caption: bool = False,
) -> dict[str, Any]:
    """Features of the schema's record: an image, a label if there are classes, a caption if any.

    Several captions of an image are kept as a list.
    """
    features: dict[str, Any] = {"image": tfds.features.Image(shape=shape)}
    if class_names:
        features["label"] = tfds.features.ClassLabel(names=list(class_names))
    elif num_classes:
        features["label"] = tfds.features.ClassLabel(num_classes=num_classes)
    if caption:
        features["caption"] = tfds.features.Sequence(tfds.features.Text())
    return features


def prepare(
    make: Callable[[Path], RecordBuilder], name: str, data_dir: Path, progress: bool = False
) -> Path:
    """The folder of the prepared data set `name`, written first if it is not there.

    Written aside and put in place by one rename: a run that is killed leaves nothing half-done,
    and of two that prepare at once the second finds the first one's and drops its own.
    """
    final = data_dir / name / VERSION
    if (final / CONTENT).exists():
        return final
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=data_dir) as aside:
        builder = make(Path(aside))
        _write(builder, progress)
        written = Path(aside) / name / VERSION
        (written / CONTENT).write_text(json.dumps(builder.fingerprints, indent=1))
        final.parent.mkdir(exist_ok=True)
        try:
            written.rename(final)
        except OSError:
            if not (final / CONTENT).exists():
                raise
    return final


def _write(builder: RecordBuilder, progress: bool) -> None:
    """Writes the set; TFDS's bars and its "Downloading" line are shown only if asked for."""
    if progress:
        builder.download_and_prepare()
        return
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
    finally:
        tfds.enable_progress_bar()
