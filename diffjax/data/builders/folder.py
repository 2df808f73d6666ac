"""A folder of images as array_record: checked and resized once, then read at any scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diffjax.data.builders.base import RecordBuilder, image_features
from diffjax.data.folder import FolderSource
from diffjax.data.images import png


def builder(name: str, sources: Mapping[str, FolderSource], data_dir: Path) -> RecordBuilder:
    """The builder of a data set called `name` from one checked folder per split.

    Images of a fixed size are stored as PNG; others as the files they are, without loss.

    Raises:
      ValueError: splits that differ in their classes, channels or fields.
    """
    first = next(iter(sources.values()))
    classes = max(source.info.num_classes for source in sources.values())
    for split, source in sources.items():
        for what, a, b in (
            ("classes", first.info.class_names, source.info.class_names),
            ("channels", first.channels, source.channels),
            ("size", first.size, source.size),
            ("fields", sorted(first[0]), sorted(source[0])),
        ):
            if a != b:
                hint = "; give class_names, all of them" if what == "classes" else ""
                raise ValueError(f"{source.folder}: {what} {b} of {split!r} differ from {a}{hint}")

    def records(source: FolderSource) -> Iterator[dict[str, Any]]:
        for entry in source.entries:
            as_is = source.size is None
            image = source.data(entry) if as_is else png(source.pixels(entry))
            record: dict[str, Any] = {"image": image}
            if entry.label is not None:
                record["label"] = entry.label
            if entry.caption is not None:
                many = isinstance(entry.caption, list)
                record["caption"] = entry.caption if many else [entry.caption]
            yield record

    return RecordBuilder(
        name=name,
        records={split: lambda s=source: records(s) for split, source in sources.items()},
        fingerprints={split: source.info.fingerprint for split, source in sources.items()},
        features=image_features(
            (first.size, first.size, first.channels),
            first.info.class_names,
            classes,
            caption="caption" in first[0],
        ),
        data_dir=data_dir,
        description=f"images of {first.folder}",
    )
