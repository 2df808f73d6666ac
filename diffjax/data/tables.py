"""Tables of captions and labels, read strictly: every fault is an error with its file and line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from diffjax.data.folder_files import read_file, shown

FIELDS = ("file_name", "caption", "text", "label")
_DIGITS = 40  # of the longest number that is converted; a label has ten
_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


class Row(NamedTuple):
    """A line of a table: `where` it stands, "FILE, line N", and its values by FIELDS and others."""

    where: str
    values: Mapping[str, Any]


def read_text(file: Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark; line ends as they are.

    Raises:
      ValueError: another encoding, or no regular file.
    """
    try:
        data = read_file(file)
    except OSError as error:
        raise ValueError(f"{shown(file)}: cannot be read ({error.strerror or error})") from None
    mark = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)
    if mark is None and b"\0" in data:
        mark = "UTF-16 without its mark, or no text: it holds zero bytes"
    if mark is not None:
        raise ValueError(f"{shown(file)}: is not UTF-8 ({mark}); save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{shown(file)}, line {line}: is not UTF-8 (byte 0x{data[error.start]:02X}; Latin-1 or "
            "Windows-1252, perhaps); save it as UTF-8"
        ) from None


def rows(table: Path) -> Iterator[Row]:
    """The rows of a `.jsonl` or `.csv` file; names of its columns without case and blanks around.

    Raises:
      ValueError: whatever is no row, by its line.
    """
    text = read_text(table)
    return _csv_rows(table, text) if table.suffix.lower() == ".csv" else _json_rows(table, text)


def _csv_rows(table: Path, text: str) -> Iterator[Row]:
    header: list[str] | None = None
    for line, fields in _records(table, text):
        where = f"{shown(table)}, line {line}"
        if header is None:
            header = _header(where, fields)
        elif len(fields) != len(header):
            raise ValueError(
                f"{where}: has {len(fields)} fields, but the header names {len(header)}; put "
                "fields that hold a comma or a quote in double quotes"
            )
        else:
            yield Row(where, {k: v for k, v in zip(header, fields, strict=True) if v})


def _records(table: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """(line where it begins, fields) of every record that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    while True:
        line = reader.line_num + 1
        try:
            with _fields_up_to(len(text) + 1):
                fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            unclosed = "unexpected end" in str(error)
            what = "a double quote is not closed" if unclosed else str(error)
            raise ValueError(f"{shown(table)}, line {line}: no CSV ({what})") from None
        if fields and (len(fields) > 1 or fields[0].strip()):
            yield line, fields


@contextmanager
def _fields_up_to(length: int) -> Iterator[None]:
    """Lets `csv` read longer fields than its 131,072 characters."""
    before = csv.field_size_limit()
    csv.field_size_limit(max(before, length))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _header(where: str, fields: list[str]) -> list[str]:
    """The names of the columns: FIELDS alone, each once, file_name and another among them."""
    names = [field.strip().casefold() for field in fields]
    for name, field in zip(names, fields, strict=True):
        if name not in FIELDS:
            apart = ";" in name or "\t" in name
            hint = "; columns are parted by commas" if apart else ""
            raise ValueError(
                f"{where}: unknown column {field[:80]!r}{hint} (known: {', '.join(FIELDS)})"
            )
    _check_names(where, names)
    if "file_name" not in names:
        raise ValueError(f"{where}: no column file_name")
    if len(names) < 2:
        raise ValueError(f"{where}: no column caption, text or label beside file_name")
    return names


def _check_names(where: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{where}: names {name[:80]!r} twice")
    if "caption" in names and "text" in names:
        raise ValueError(f"{where}: has both caption and text, which mean the same; keep one")


def _json_rows(table: Path, text: str) -> Iterator[Row]:
    # Not splitlines: U+2028 and others may stand in a caption.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{shown(table)}, line {number}"
        try:
            row = json.loads(
                line, parse_int=_integer, parse_constant=_constant, object_pairs_hook=_pairs
            )
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: not JSON ({error.msg})") from None
        except RecursionError:
            raise ValueError(f"{where}: not JSON that is read (nested too deeply)") from None
        except ValueError as error:
            raise ValueError(f"{where}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise ValueError(f"{where}: not an object")
        names = [_known(name) for name in row]
        _check_names(where, names)
        yield Row(where, dict(zip(names, row.values(), strict=True)))


def _known(name: str) -> str:
    plain = name.strip().casefold()
    return plain if plain in FIELDS else name


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object names {twice[:80]!r} twice")
    return row
