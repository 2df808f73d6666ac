"""What a folder of images says about them: file, label and captions of every example.

Four layouts, told apart by what is there:
  metadata.jsonl    one object a line: file_name, and caption (a string or a list) or label or both
  captions.csv      columns file_name, and caption or label or both
  CLASS/IMAGE       one folder per class, the label is its place in alphabetical order
  IMAGE, IMAGE.txt  a caption beside each image, or none at all
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffjax.data.images import SUFFIXES


@dataclass(frozen=True)
class Entry:
    """One example: `file` relative to the folder, with its `label` or `caption` if it has them."""

    file: str
    label: int | None = None
    caption: str | list[str] | None = None


@dataclass(frozen=True)
class FolderIndex:
    """The examples of a folder, in the order of their files' names; `class_names` or empty."""

    entries: tuple[Entry, ...]
    class_names: tuple[str, ...]


def index_folder(folder: Path) -> FolderIndex:
    """Every image of `folder` with what is known of it.

    Raises:
      ValueError: no folder, no images, two metadata files, or one that contradicts the images.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    tables = [folder / name for name in ("metadata.jsonl", "captions.csv")]
    tables = [table for table in tables if table.exists()]
    if len(tables) == 2:
        raise ValueError(f"{folder}: has both metadata.jsonl and captions.csv; keep one")
    images = image_files(folder)
    if tables:
        return _from_table(folder, tables[0])
    if not images:
        raise ValueError(f"{folder}: no images ({', '.join(SUFFIXES)}) in it")
    if all(len(file.parts) > 1 for file in images):
        return _from_classes(folder, images)
    return _from_sidecars(folder, images)


def image_files(folder: Path) -> list[Path]:
    """Image files below `folder`, hidden ones left out, relative, sorted."""
    files = (f.relative_to(folder) for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES)
    return sorted(f for f in files if not any(part.startswith(".") for part in f.parts))


def _from_classes(folder: Path, images: list[Path]) -> FolderIndex:
    # An empty class folder counts: it may be filled in another split.
    names = sorted(d.name for d in folder.iterdir() if d.is_dir() and d.name[0] != ".")
    labels = {name: i for i, name in enumerate(names)}
    captions = _sidecars(folder, images)
    entries = [Entry(f.as_posix(), labels[f.parts[0]], captions.get(f)) for f in images]
    return FolderIndex(tuple(entries), tuple(names))


def _from_sidecars(folder: Path, images: list[Path]) -> FolderIndex:
    captions = _sidecars(folder, images)
    return FolderIndex(tuple(Entry(f.as_posix(), None, captions.get(f)) for f in images), ())


def _sidecars(folder: Path, images: list[Path]) -> dict[Path, str]:
    """The text beside each image: of all of them, or {} where there is none."""
    beside = {image: folder / image.with_suffix(".txt") for image in images}
    if not any(text.exists() for text in beside.values()):
        return {}
    seen: dict[Path, Path] = {}
    for image, text in beside.items():
        if not text.exists():
            raise ValueError(
                f"{folder / image}: other images have a caption file, {text} is missing"
            )
        if text in seen:
            raise ValueError(
                f"{text}: captions both {seen[text].name} and {image.name}; rename one"
            )
        seen[text] = image
    return {image: text.read_text(encoding="utf-8").strip() for image, text in beside.items()}


def _from_table(folder: Path, table: Path) -> FolderIndex:
    """The examples that `table` lists; images that it does not list are left out."""
    rows: dict[str, tuple[dict[str, Any], str]] = {}
    for where, row in _rows(table):
        file = row.get("file_name")
        if not isinstance(file, str) or not file:
            raise ValueError(f"{where}: no file_name")
        if file in rows:
            raise ValueError(f"{where}: {file} is listed twice, first in {rows[file][1]}")
        if not (folder / file).is_file():
            raise ValueError(f"{where}: names {file}, which is not in {folder}")
        rows[file] = (row, where)
    if not rows:
        raise ValueError(f"{table}: lists no images")
    names = _class_names([row.get("label") for row, _ in rows.values()])
    entries = [_entry(file, *rows[file], names) for file in sorted(rows)]
    for field in ("label", "caption"):
        have = [getattr(e, field) is not None for e in entries]
        if any(have) and not all(have):
            file = entries[have.index(False)].file
            raise ValueError(f"{rows[file][1]}: {file} has no {field}, others have")
    return FolderIndex(tuple(entries), names)


def _rows(table: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of every line of a jsonl or csv file."""
    with table.open(encoding="utf-8", newline="") as lines:
        if table.suffix == ".csv":
            for row in (reader := csv.DictReader(lines)):
                yield f"{table}, line {reader.line_num}", {k: v for k, v in row.items() if v}
            return
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{table}, line {number}: not JSON ({error.msg})") from None
            if not isinstance(row, dict):
                raise ValueError(f"{table}, line {number}: not an object")
            yield f"{table}, line {number}", row


def _class_names(labels: list[Any]) -> tuple[str, ...]:
    """The sorted names, where the labels are names; () where they are numbers, or absent."""
    names = {x for x in labels if isinstance(x, str)}
    return () if all(name.isdigit() for name in names) else tuple(sorted(names))


def _entry(file: str, row: dict[str, Any], where: str, names: tuple[str, ...]) -> Entry:
    label, caption = row.get("label"), row.get("caption", row.get("text"))
    if names and label is not None:
        if label not in names:
            raise ValueError(f"{where}: label {label!r} is a number, others are names")
        label = names.index(label)
    elif label is not None:
        label = _integer(label, where)
    texts = caption if isinstance(caption, list) else [caption]
    if caption is not None and not (texts and all(isinstance(text, str) for text in texts)):
        raise ValueError(f"{where}: caption must be a string or a list of strings")
    return Entry(file, label, caption)


def _integer(label: Any, where: str) -> int:
    try:
        if isinstance(label, (str, int)) and not isinstance(label, bool):
            return int(label)
    except ValueError:
        pass
    raise ValueError(f"{where}: label {label!r} is neither a whole number nor a name")
