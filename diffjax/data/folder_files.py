"""The files of a folder: which are there, which are left out, and how one is opened.

Links are followed. A folder is read once: a link back to a folder around it (a loop), and a second
way to one, are errors. Hidden names, and what operating systems leave behind, are left out.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path, PurePosixPath

from diffjax.data.image_formats import is_image_name

# Folders that a system makes: of macOS archives, of thumbnails, of deleted and of rescued files.
SYSTEM = (
    "__MACOSX",
    "@eaDir",
    "lost+found",
    "$RECYCLE.BIN",
    "#recycle",
    "System Volume Information",
)


@dataclass
class Listing:
    """The files below a folder, each by its path relative to it, with "/" between names.

    Attributes:
      images: by their suffix; sorted, folder by folder.
      texts: files `.txt`, in upper or lower case.
      others: files of other suffixes.
      folders: the folders directly in it, sorted.
      broken: links to nothing that have no suffix of an image.
      hidden: number of names that begin with a dot, and of the system's folders.
    """

    images: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    hidden: int = 0

    def left_out(self, texts_too: bool = True) -> str:
        """The files that are not read, counted, "3 .heic, 1 .mp4"; empty where there is nothing."""
        files = [*self.others, *(self.texts if texts_too else [])]
        count = Counter(PurePosixPath(f).suffix.lower() or "without suffix" for f in files)
        parts = [f"{n} {suffix}" for suffix, n in count.most_common()]
        parts += [f"{len(self.broken)} broken links"] if self.broken else []
        parts += [f"{self.hidden} hidden"] if self.hidden else []
        return ", ".join(parts)


def list_folder(folder: Path) -> Listing:
    """Everything below `folder`.

    Raises:
      ValueError: no folder, one that may not be read, a loop of links, a folder reached twice.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    listing = Listing()
    _walk(folder, {_identity(folder): folder}, listing)
    listing.images.sort(key=_by_parts)
    listing.texts.sort(key=_by_parts)
    listing.folders.sort()
    return listing


def _by_parts(file: str) -> list[str]:
    return file.split("/")


def _walk(folder: Path, known: dict[tuple[int, int], Path], found: Listing) -> None:
    """Adds what lies below `folder` to `found`; `known` are the folders met so far."""
    stack = [(folder, "")]
    while stack:
        folder, prefix = stack.pop()
        for entry in _entries(folder):
            file = prefix + entry.name
            if entry.name.startswith(".") or entry.name in SYSTEM:
                found.hidden += 1
            elif _leads_to_folder(entry):
                path = Path(entry.path)
                _no_loop(path)
                _once(path, known)
                if not prefix:
                    found.folders.append(file)
                stack.append((path, file + "/"))
            elif is_image_name(entry.name):
                found.images.append(file)
            elif entry.is_symlink() and not os.path.exists(entry.path):
                found.broken.append(file)
            else:
                kind = found.texts if entry.name.lower().endswith(".txt") else found.others
                kind.append(file)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise ValueError(
            f"{shown(folder)}: cannot be listed ({error.strerror}); its images would be missing"
        ) from None


def _identity(folder: Path) -> tuple[int, int]:
    fact = folder.stat()
    return fact.st_dev, fact.st_ino


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link that leads to itself.
        return False


def _no_loop(folder: Path) -> None:
    """Raises where `folder` is a link to one around it, before all that lies there is walked."""
    if folder.is_symlink():
        target = os.path.realpath(folder)
        if _within(os.path.realpath(folder.parent), target):
            raise ValueError(
                f"{shown(folder)}: a loop: it links to {shown(target)}, in which it lies; remove "
                "the link"
            )


def _once(folder: Path, known: dict[tuple[int, int], Path]) -> None:
    """Notes `folder`, or raises where it is one that is `known`."""
    first = known.setdefault(_identity(folder), folder)
    if first != folder:
        link, other = (folder, first) if folder.is_symlink() else (first, folder)
        raise ValueError(
            f"{shown(link)}: is the same folder as {shown(other)}, so that its images would be "
            "read twice; remove one of the links"
        )


def open_file(path: Path | str) -> BufferedReader:
    """A regular file, or a link to one, opened to be read.

    Raises:
      OSError: there is none; a pipe, device or socket is never opened, since it may never end.
    """
    _regular(os.stat(path).st_mode)
    # The file may have been exchanged since: an open that does not wait, and a second look.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        _regular(os.fstat(descriptor).st_mode)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _regular(mode: int) -> None:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
    }
    if not stat.S_ISREG(mode):
        raise OSError(f"is {kinds.get(stat.S_IFMT(mode), 'something else')}, not a file")


def read_file(path: Path | str) -> bytes:
    """The contents of a regular file; see `open_file`."""
    with open_file(path) as file:
        return file.read()


def normal(name: str) -> str:
    """`name` in Unicode's form NFC: systems differ in how they write the same letters."""
    return unicodedata.normalize("NFC", name)


def shown(name: object) -> str:
    """A name for a message: what does not print is escaped."""
    letters = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))
    return "".join(letters)


def links_out(folder: Path, files: list[str]) -> Iterator[str]:
    """Those of `files`, relative to `folder`, that a link leads out of it."""
    root = os.path.realpath(folder)
    parents: dict[str, bool] = {}
    for file in files:
        path = os.path.join(root, file)
        parent = os.path.dirname(path)
        if parent not in parents:
            parents[parent] = _within(os.path.realpath(parent), root)
        if not parents[parent] or (
            os.path.islink(path) and not _within(os.path.realpath(path), root)
        ):
            yield file


def _within(path: str, root: str) -> bool:
    return path == root or path.startswith(os.path.join(root, ""))
