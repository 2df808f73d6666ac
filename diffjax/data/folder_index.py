"""Index of a folder of images: file, label and captions of every example.

Layouts, told apart by what is there:
  metadata.jsonl    one object a line: file_name, and caption (a string or a list) or label or both
  metadata.csv      or captions.csv: columns file_name, and caption or label or both
  CLASS/IMAGE       one folder per class, the label is its place in alphabetical order
  IMAGE, IMAGE.txt  a caption beside each image, or none at all

What would change labels without a word is an error; what is not read is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from diffjax.choices import unknown
from diffjax.data.folder_files import Listing, list_folder, normal, shown
from diffjax.data.folder_table import Entry, table_entries
from diffjax.data.image_formats import usual_suffixes
from diffjax.data.tables import read_text

TABLES = ("metadata.jsonl", "metadata.csv", "captions.csv")
# Tables of others' that would be read if we could; whoever has one must know that it is not.
UNREAD = ("metadata.parquet", "captions.jsonl", "captions.tsv", "metadata.tsv")
SPLITS = ("train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval")


@dataclass(frozen=True)
class FolderIndex:
    """The examples of a folder, in the order of their files' names; `class_names` or empty;
    `left_out` says what was not read, a line each."""

    entries: tuple[Entry, ...]
    class_names: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def index_folder(
    folder: Path, labels: bool = True, class_names: Sequence[str] | None = None
) -> FolderIndex:
    """Every image of `folder` with what is known of it.

    Args:
      folder: its layout is one of the module's.
      labels: False leaves labels out; folders are then no classes.
      class_names: the classes in the order of their labels; by default those that are found,
        sorted.

    Raises:
      ValueError: no folder, no images, two tables, one that contradicts the images, or files that
        leave open which labels are meant.
    """
    if class_names is not None:
        class_names = tuple(map(normal, class_names))
        if len(set(class_names)) < len(class_names):
            raise ValueError(f"{folder}: class_names holds a name twice: {', '.join(class_names)}")
    listing = list_folder(folder)
    if (table := _table(folder, listing, labels)) is not None:
        entries, names, said = table_entries(folder, table, listing, labels, class_names)
        listing.others.remove(table.name)
        return FolderIndex(entries, names, _left_out(listing, {}, *said))
    if not listing.images:
        raise ValueError(f"{folder}: no images ({usual_suffixes()}) in it")
    classes = sorted({file.split("/")[0] for file in listing.images if "/" in file})
    if labels and classes:
        return _from_classes(folder, listing, classes, class_names)
    if class_names:
        raise ValueError(f"{folder}: class_names are given, but its images have no labels")
    captions = _sidecars(folder, listing)
    entries = [Entry(file, None, *captions.get(file, ())) for file in listing.images]
    return FolderIndex(tuple(entries), (), _left_out(listing, captions))


def _table(folder: Path, listing: Listing, labels: bool) -> Path | None:
    """The table of the folder, if there is one; errors for any that would not be read, but for
    those of folders below where no labels are asked for."""
    known = [f for f in listing.others if PurePosixPath(f).name.lower() in TABLES + UNREAD]
    here = [f for f in known if "/" not in f]
    unread = [f for f in here if f.lower() in UNREAD]
    if unread:
        raise ValueError(
            f"{folder / unread[0]}: a table of this kind is not read; write {TABLES[0]} or "
            f"{TABLES[1]}, or move it away"
        )
    if len(here) > 1:
        order = sorted(here, key=lambda f: TABLES.index(f.lower()))
        raise ValueError(f"{folder}: has both {order[0]} and {order[1]}; keep one")
    if labels and len(known) > len(here):
        below = next(f for f in known if f not in here)
        raise ValueError(
            f"{shown(folder / below)}: a table in a folder below is not read; set split=... if "
            f"that is a split, or move its lines to {folder / TABLES[0]}"
        )
    return folder / here[0] if here else None


def _left_out(
    listing: Listing, captions: dict[str, tuple[str, str]], *more: str
) -> tuple[str, ...]:
    """The files of `listing` that are not read, where the texts of `captions` are."""
    said = listing.left_out(texts_too=not captions)
    spare = len(listing.texts) - len(captions)
    lines = [f"left out {said}"] if said else []
    lines += [f"left out {spare} .txt beside no image"] if captions and spare else []
    return (*lines, *more)


def _from_classes(
    folder: Path, listing: Listing, found: list[str], class_names: Sequence[str] | None
) -> FolderIndex:
    _check_classes(folder, listing, found)
    names = sorted(map(normal, found)) if class_names is None else list(class_names)
    labels = {name: i for i, name in enumerate(names)}
    for name in found:
        if normal(name) not in labels:
            raise unknown(f"class, of the folder {folder},", normal(name), names)
    captions = _sidecars(folder, listing)
    entries = [
        Entry(f, labels[normal(f.split("/")[0])], *captions.get(f, ())) for f in listing.images
    ]
    empty = [name for name in listing.folders if name not in found]
    more = [f"left out folders without images: {', '.join(map(shown, empty))}"] if empty else []
    return FolderIndex(tuple(entries), tuple(names), _left_out(listing, captions, *more))


def _check_classes(folder: Path, listing: Listing, found: list[str]) -> None:
    """Raises where it is open which labels are meant."""
    stray = [file for file in listing.images if "/" not in file]
    some = ", ".join(map(shown, found[:3])) + (", ..." if len(found) > 3 else "")
    if stray:
        others = f" (and {len(stray) - 1} others)" if len(stray) > 1 else ""
        raise ValueError(
            f"{shown(folder / stray[0])}{others}: an image beside folders of images ({some}) has "
            "no class; move it into one or away, or set labels=False"
        )
    if all(name.lower() in SPLITS for name in found):
        raise ValueError(
            f"{folder}: its folders {some} are splits, not classes; set split='{found[0]}', or "
            "labels=False"
        )
    broken = [file for file in listing.broken if "/" not in file]
    if broken:
        raise ValueError(
            f"{shown(folder / broken[0])}: a link to nothing, which may stand for a class; mend "
            "or remove it"
        )
    names: dict[str, str] = {}
    for name in found:
        if not name.isprintable():
            raise ValueError(
                f"{shown(folder / name)}: its name is not UTF-8, or does not print, and cannot be "
                "that of a class; rename it"
            )
        if normal(name) in names:
            raise ValueError(
                f"{folder}: two class folders are called {name} and differ only in how Unicode "
                "writes it; put them together"
            )
        names[normal(name)] = name


def _sidecars(folder: Path, listing: Listing) -> dict[str, tuple[str, str]]:
    """(the text beside it, its file) of every image, or {} where none has one."""
    texts: dict[str, str] = {}
    for text in listing.texts:
        stem = normal(text[: -len(".txt")])
        if stem in texts:
            raise ValueError(f"{shown(folder / text)}: there is {shown(texts[stem])} too; keep one")
        texts[stem] = text
    beside = {f: texts.get(normal(str(PurePosixPath(f).with_suffix("")))) for f in listing.images}
    if not any(beside.values()):
        return {}
    seen: dict[str, str] = {}
    for image, text in beside.items():
        if text is None:
            missing = folder / PurePosixPath(image).with_suffix(".txt")
            raise ValueError(
                f"{shown(folder / image)}: other images have a caption file, {shown(missing)} is "
                "missing"
            )
        if text in seen:
            raise ValueError(
                f"{shown(folder / text)}: captions both {shown(PurePosixPath(seen[text]).name)} "
                f"and {shown(PurePosixPath(image).name)}; rename one"
            )
        seen[text] = image
    paths = {image: folder / str(text) for image, text in beside.items()}
    return {image: (read_text(path).strip(), shown(path)) for image, path in paths.items()}
