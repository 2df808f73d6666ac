"""The examples that a folder's table lists: which files, which labels, which captions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from diffjax.choices import unknown
from diffjax.data.folder_files import Listing, links_out, normal, shown
from diffjax.data.tables import FIELDS, Row, rows

_NUMBER = re.compile(r"[+-]?[0-9]+")
_DIGITS = 40  # No number of more is converted: that takes long, or fails.
_LARGEST_LABEL = 2**31 - 2  # Labels are int32, and so is their number.


@dataclass(frozen=True)
class Entry:
    """One example: `file` relative to the folder, with its `label` or `caption` if it has them;
    `where` its caption stands, "FILE" or "FILE, line N"."""

    file: str
    label: int | None = None
    caption: str | list[str] | None = None
    where: str = field(default="", repr=False, compare=False)  # no part of a set's fingerprint


def table_entries(
    folder: Path,
    table: Path,
    listing: Listing,
    labels: bool,
    class_names: Sequence[str] | None,
) -> tuple[tuple[Entry, ...], tuple[str, ...], list[str]]:
    """(examples in the order of their files' names, names of the classes, what was not read).

    Args:
      folder, listing: what is there; images that the table does not list are left out.
      labels, class_names: see `folder_index.index_folder`.

    Raises:
      ValueError: a table that is none, contradicts itself or the folder, or leaves it.
    """
    listed = _listed(folder, table, listing)
    by_label = [row.values.get("label") if labels else None for row in listed.values()]
    names = _class_names(by_label) if class_names is None else tuple(class_names)
    entries = [
        _entry(file, listed[file], names, labels, class_names is not None)
        for file in sorted(listed)
    ]
    for what in ("label", "caption"):
        have = [getattr(e, what) is not None for e in entries]
        if any(have) and not all(have):
            first = entries[have.index(False)]
            raise ValueError(f"{first.where}: {shown(first.file)} has no {what}, others have")
    if labels and all(e.label is None and e.caption is None for e in entries):
        raise ValueError(f"{entries[0].where}: neither caption nor label, here and in all lines")
    return tuple(entries), names, _said(table, listing, listed, entries)


def _said(table: Path, listing: Listing, listed: dict[str, Row], entries: list[Entry]) -> list[str]:
    """The parts of the folder and the table that are not read."""
    spare = len(set(listing.images) - set(listed))
    said = [f"left out {spare} images that {table.name} does not list"] if spare else []
    unread = {key for row in listed.values() for key in row.values} - set(FIELDS)
    if unread:
        said.append(f"not read in {table.name}: {', '.join(map(shown, sorted(unread)))}")
    if entries[0].label is None and any("/" in e.file for e in entries):
        said.append(f"folders are no classes, since there is {table.name} and it has no labels")
    return said


def _listed(folder: Path, table: Path, listing: Listing) -> dict[str, Row]:
    """File -> its row, every file there and inside the folder."""
    there = set(listing.images)
    by_letters = {normal(file): file for file in listing.images}
    listed: dict[str, Row] = {}
    for row in rows(table):
        name = _inside(row)
        file = name if name in there else by_letters.get(normal(name), name)
        if file in listed:
            raise ValueError(
                f"{row.where}: {shown(name)} is listed twice, first in {listed[file].where}"
            )
        if file not in there and not _is_file(folder / file):
            hint = "; write / between folders" if "\\" in name else ""
            raise ValueError(f"{row.where}: names {shown(name)}, which is not in {folder}{hint}")
        listed[file] = row
    if not listed:
        raise ValueError(f"{table}: lists no images")
    for file in links_out(folder, list(listed)):
        raise ValueError(
            f"{listed[file].where}: names {shown(file)}, which a link leads out of {folder}; put "
            "the table beside the images, or the images into the folder"
        )
    return listed


def _inside(row: Row) -> str:
    """The file that a row names, as a plain path below the folder."""
    name = row.values.get("file_name")
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{row.where}: no file_name")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in re.split(r"[/\\]", name) or re.match(r"[A-Za-z]:|\\", name):
        raise ValueError(f"{row.where}: names {shown(name)}, a path that leaves the folder")
    return str(path)


def _is_file(path: Path) -> bool:
    try:
        return path.exists() and not path.is_dir()
    except (OSError, ValueError):  # Too long, or with a zero byte: no name of a file.
        return False


def _class_names(labels: list[Any]) -> tuple[str, ...]:
    """The sorted names, where the labels are names; () where they are numbers, or absent."""
    names = {normal(x.strip()) for x in labels if isinstance(x, str) and x.strip()}
    return () if all(_NUMBER.fullmatch(name) for name in names) else tuple(sorted(names))


def _entry(file: str, row: Row, names: tuple[str, ...], labels: bool, named: bool) -> Entry:
    label = row.values.get("label") if labels else None
    if label is not None:
        label = _label(label, row.where, names, named)
    caption = row.values.get("caption", row.values.get("text"))
    return Entry(file, label, _checked_caption(caption, row.where), row.where)


def _label(label: Any, where: str, names: tuple[str, ...], named: bool) -> int:
    """The number of a class from its number or its name, which `names` has."""
    name = normal(label.strip()) if isinstance(label, str) else None
    if name is not None and name in names:
        return names.index(name)
    whole = isinstance(label, int) and not isinstance(label, bool)
    if not whole and (name is None or not _NUMBER.fullmatch(name)):
        if named and name is not None:
            raise unknown(f"class in {where}:", name, names)
        raise ValueError(f"{where}: label {repr(label)[:80]} is neither a whole number nor a name")
    if names and not named:
        raise ValueError(f"{where}: label {label!r} is a number, others are names")
    if len(str(label)) > _DIGITS or abs(int(label)) > _LARGEST_LABEL:
        raise ValueError(f"{where}: label {str(label)[:80]} is larger than any number of classes")
    return int(label)


def _checked_caption(caption: Any, where: str) -> str | list[str] | None:
    texts = caption if isinstance(caption, list) else [caption]
    if caption is not None and not (texts and all(isinstance(text, str) for text in texts)):
        raise ValueError(f"{where}: caption must be a string or a list of strings")
    if any("\ud800" <= letter <= "\udfff" for text in texts if text for letter in text):
        raise ValueError(f"{where}: the caption holds half of a surrogate pair")
    return caption
