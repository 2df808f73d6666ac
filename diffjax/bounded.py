"""Files that come from elsewhere, read within bounds: what is to be held in memory is known, and
compared with the size of the file, before it is read."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MB = 2**20
# JSON takes up to 30 times its size in memory; an index over the shards of a network is 0.1 MB.
JSON_BYTES = 4 * MB
# A zip's list of its members, some 100 bytes for each.
_DIRECTORY = 8 * MB
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SHOWN = 60


def check_regular(file: Path) -> None:
    """Refuses what is no file on a disk: a pipe or a device may never end.

    Raises:
      ValueError: it is missing, or is no regular file.
    """
    if not file.exists():
        raise ValueError(f"{file} cannot be read: No such file or directory")
    if not file.is_file():
        raise ValueError(f"{file} is no regular file")


def read_bytes(file: Path, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes.

    Raises:
      ValueError: it cannot be read, or is larger.
    """
    check_regular(file)
    try:
        with open(file, "rb") as opened:
            found = opened.read(limit + 1)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error
    if len(found) > limit:
        raise ValueError(f"{file} is larger than {limit / MB:.0f} MB, the most such a file can be")
    return found


def parse_json(content: bytes, what: object) -> dict[str, Any]:
    """The object that is written as JSON in `content`; errors call it `what`.

    Raises:
      ValueError: it is no JSON, no object, too deep, or says a key twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))
            raise ValueError(f"it says {shortened(twice)} twice")
        return found

    try:
        found = json.loads(content, object_pairs_hook=once)
    except RecursionError as error:
        raise ValueError(f"{what} is not JSON: it is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{what} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{what} holds no JSON object")
    return found


def read_json(file: Path, limit: int = JSON_BYTES) -> dict[str, Any]:
    """The object of a JSON file.

    Raises:
      ValueError: as `read_bytes` and `parse_json`.
    """
    return parse_json(read_bytes(file, limit), file)


def gunzip(content: bytes, limit: int) -> bytes:
    """The bytes compressed in `content`, at most `limit`.

    Raises:
      ValueError: it is no gzip, is cut short, or holds more.
    """
    stream = zlib.decompressobj(wbits=31)
    try:
        found = stream.decompress(content, limit + 1)
    except zlib.error as error:
        raise ValueError(f"no gzip: {error}") from error
    if len(found) > limit:
        raise ValueError(f"it decompresses to more than {limit / MB:.0f} MB")
    if not stream.eof or stream.unused_data.strip(b"\0"):
        raise ValueError("it is cut short, or goes on after its end")
    return found


class _Opening(io.BufferedReader):
    """A file whose list of members is bounded while `zipfile` reads it."""

    limit: int | None = _DIRECTORY

    def read(self, size: int | None = -1, /) -> bytes:
        if self.limit is not None and size is not None and size > self.limit:
            raise zipfile.BadZipFile(f"its list of members takes {size} bytes")
        return super().read(size)


@contextmanager
def open_zip(file: Path, ratio: float) -> Iterator[zipfile.ZipFile]:
    """A zip whose members, decompressed, are together at most `ratio` times as large as the file
    (and 1 MB); read them by `read_member`.

    Raises:
      zipfile.BadZipFile: it is none, or its members overlap or claim to be larger.
    """
    with _Opening(io.FileIO(file)) as opened, zipfile.ZipFile(opened) as archive:
        opened.limit = None
        members, size = archive.infolist(), file.stat().st_size
        claimed = sum(m.file_size for m in members)
        if sum(m.compress_size for m in members) > size:
            raise zipfile.BadZipFile("its members overlap")
        if claimed > ratio * size + MB:
            raise zipfile.BadZipFile(
                f"its members claim to hold {claimed} bytes, which a file of {size} cannot"
            )
        if len({m.filename for m in members}) < len(members):
            raise zipfile.BadZipFile("two of its members have one name")
        strange = [m.filename for m in members if m.compress_type not in _METHODS]
        if strange:
            raise zipfile.BadZipFile(f"{shortened(strange[0])} is compressed in an unusual way")
        yield archive


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member, no longer than its entry says.

    Raises:
      zipfile.BadZipFile: there is none, or it holds fewer bytes or other ones.
    """
    try:
        size = archive.getinfo(name).file_size
    except KeyError:
        raise zipfile.BadZipFile(f"it has no member {shortened(name)}") from None
    with archive.open(name) as opened:
        # Asked for less than all, it decompresses no more than that.
        found = opened.read(size)
    if len(found) != size:
        raise zipfile.BadZipFile(f"{shortened(name)} is shorter than its entry says")
    return found


def shortened(value: object, most: int = _SHOWN) -> str:
    """`value` as an error quotes it: of a large one its kind, of a long one its beginning."""
    if isinstance(value, dict | list | tuple):
        kind = "a map" if isinstance(value, dict) else "a list"
        if len(value) > 8 or any(isinstance(v, dict | list | tuple) for v in _items(value)):
            return f"{kind} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a number of {value.bit_length()} bits"
    said = repr(value[: most + 1] if isinstance(value, str) else value)
    return said if len(said) <= most else f"{said[:most]}..."


def _items(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value
