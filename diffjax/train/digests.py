"""Digests of a folder's files, kept in the folder: `sha256sum -c digests.sha256` checks them too.

A line is a file's SHA-256, two blanks and its path; the last line, a comment to `sha256sum`, is the
digest of the lines before it, so that damage to the list itself is found.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from diffjax.train.writer import replace_file

NAME = "digests.sha256"


def write(folder: Path, without: Collection[str] = ()) -> None:
    """Lists the files in `folder`, those in its list already as they stand there.

    Args:
      without: paths left out, for they are not written yet or change once more.

    Raises:
      ValueError: the list that is there is damaged.
      OSError: a file cannot be read, or the list not written.
    """
    known = read(folder) or {}
    paths = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    new = [p for p in paths if p not in known and p not in without and p != NAME]
    digests = {**known, **{path: _digest(folder / path) for path in new}}
    replace_file(folder / NAME, _lines(digests))


def read(folder: Path) -> dict[str, str] | None:
    """The list of `folder`, path -> digest in hexadecimal; None where it has none.

    Raises:
      ValueError: the list is damaged.
    """
    try:
        data = (folder / NAME).read_bytes()
    except FileNotFoundError:
        return None
    try:
        lines = [line.split("  ", 1) for line in data.decode().splitlines()[:-1]]
        digests = {path: digest for digest, path in lines}
    except ValueError:
        digests = {}
    if data != _lines(digests):
        raise ValueError(f"{NAME} is not as it was written")
    return digests


def differing(folder: Path, digests: Mapping[str, str], paths: Iterable[str]) -> list[str]:
    """Those of `paths` that are missing, unreadable or other than listed, in their order."""

    def differs(path: str) -> bool:
        try:
            return _digest(folder / path) != digests[path]
        except OSError:
            return True

    paths = list(paths)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return [path for path, bad in zip(paths, pool.map(differs, paths), strict=True) if bad]


def _digest(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _lines(digests: Mapping[str, str]) -> bytes:
    body = "".join(f"{digests[path]}  {path}\n" for path in sorted(digests)).encode()
    return body + f"# {hashlib.sha256(body).hexdigest()}\n".encode()
