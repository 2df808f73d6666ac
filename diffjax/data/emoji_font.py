"""The drawings of a colour emoji font: bitmaps (CBDT), and the ligatures that spell them (GSUB).

A family or a woman firefighter is several code points and one glyph, a ligature of theirs. Pillow
finds it only with a shaping library beside it that many systems lack, so the font's own tables are
read here, by fontTools: which is enough, since an emoji that is one drawing is one ligature. What a
font would put together from several glyphs counts as not drawn.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.data.images import CORRUPT, decode, reason

NAME = "NotoColorEmoji.ttf"
# Where systems and people keep fonts; folders below are looked through.
PLACES = (
    "~/.local/share/fonts", "~/.fonts", "~/Library/Fonts", "/Library/Fonts",
    "/usr/local/share/fonts", "/usr/share/fonts",
)  # fmt: skip
WHERE_TO_GET_ONE = (
    "install Debian's package fonts-noto-color-emoji, or take fonts/NotoColorEmoji.ttf from "
    "https://github.com/googlefonts/noto-emoji and run experiments.prepare_data --source=emoji "
    "--font=NotoColorEmoji.ttf"
)
MAX_BYTES, MAX_SIDE = 128 * 2**20, 1024  # of a font, Noto's has 10 MB; of a drawing, 136 x 128
_TRUETYPE = (b"\x00\x01\x00\x00", b"true")  # not compressed, not a collection
_LIGATURES = (4, 7)  # types of lookups: ligatures, and any type by a longer offset
_SELECTOR = 0xFE0F  # asks for the coloured picture, which all are
_PNG = b"\x89PNG\r\n\x1a\n"
# Tables that hold colour in another way.
_OTHERS = {
    "COLR": "outlines in colours (COLR)",
    "SVG ": "drawings in SVG",
    "sbix": "Apple's bitmaps (sbix)",
}


def find_font(path: str | os.PathLike[str] | None = None) -> Path:
    """The font file `path`, or the first `NotoColorEmoji.ttf` below PLACES.

    Raises:
      ValueError: there is none; the line says where to get one.
    """
    if path is not None:
        file = Path(path).expanduser()
        if not file.exists():
            raise ValueError(f"{file}: no such font; {WHERE_TO_GET_ONE}")
        return file
    for place in PLACES:
        for folder, inside, files in os.walk(Path(place).expanduser()):
            inside.sort()
            if NAME in files:
                return Path(folder) / NAME
    raise ValueError(f"no {NAME} in {', '.join(PLACES)}; {WHERE_TO_GET_ONE}")


class _NoColour(ValueError):
    """A sound font without colour bitmaps."""


class EmojiFont:
    """The drawings of the font file `path`.

    Raises:
      ValueError: it is no font, or has no colour bitmaps; in one line.
    """

    def __init__(self, path: Path):
        self.path = path
        data = _read(path)
        self.fingerprint = hashlib.sha256(data).hexdigest()[:16]
        try:
            self._glyphs, self._pictures = _tables(path, data)
        except _NoColour:
            raise
        # On a damaged file, a parser of fontTools' may stumble in any way.
        except Exception as error:
            raise ValueError(f"{path}: a damaged font ({reason(error)})") from error

    def png(self, sequence: str) -> bytes | None:
        """The drawing of an emoji as the font keeps it, a PNG; None where it has none.

        Raises:
          ValueError: what it keeps is no PNG, or one of more than MAX_SIDE pixels a side.
        """
        glyph = self._glyphs.get(tuple(ord(c) for c in sequence if ord(c) != _SELECTOR))
        kept = None if glyph is None else self._pictures.get(glyph)
        if kept is None:
            return None
        try:
            data: bytes = kept.imageData  # Parsed now: a table of thousands is read where it is.
            width, height = struct.unpack(">II", data[16:24])
        except Exception as error:
            raise ValueError(f"{self._named(sequence)}: damaged ({reason(error)})") from error
        if not data.startswith(_PNG):
            raise ValueError(f"{self._named(sequence)}: no PNG")
        if not 0 < min(width, height) <= max(width, height) <= MAX_SIDE:
            raise ValueError(f"{self._named(sequence)}: {width} x {height} pixels, over {MAX_SIDE}")
        return data

    def pixels(self, sequence: str) -> np.ndarray | None:
        """The drawing over white in the middle of a square, `[S, S, 3] uint8`; None where there
        is none.

        Raises:
          ValueError: see `png`; or the PNG is corrupt.
        """
        data = self.png(sequence)
        if data is None:
            return None
        try:
            drawn = decode(data, 3)
        except CORRUPT as error:
            raise ValueError(f"{self._named(sequence)}: corrupt ({reason(error)})") from None
        height, width = drawn.shape[:2]
        square = np.full((max(height, width), max(height, width), 3), 255, np.uint8)
        top, left = (len(square) - height) // 2, (len(square) - width) // 2
        square[top : top + height, left : left + width] = drawn
        return square

    def _named(self, sequence: str) -> str:
        return f"{self.path}: the drawing of {' '.join(f'U+{ord(c):04X}' for c in sequence)}"


def _read(path: Path) -> bytes:
    """The bytes of a font file that is one.

    Raises:
      ValueError: a pipe, a folder, a file too large or of another format.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path}: no file")
        if status.st_size > MAX_BYTES:
            raise ValueError(f"{path}: {status.st_size} bytes, more than a font of emoji has")
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if data[:4] not in _TRUETYPE:
        raise ValueError(f"{path}: no TrueType font; {WHERE_TO_GET_ONE}")
    return data


def _tables(path: Path, data: bytes) -> tuple[dict[tuple[int, ...], str], dict[str, Any]]:
    """(code points, without the selector -> glyph; glyph -> its bitmap) of a font.

    Raises:
      _NoColour: it has no colour bitmaps.
    """
    from fontTools.ttLib import TTFont  # read by the set's preparation alone

    with TTFont(io.BytesIO(data)) as font:
        if "CBDT" not in font or "CBLC" not in font:
            has = [said for tag, said in _OTHERS.items() if tag in font]
            what = f"{' and '.join(has)}, but no" if has else "no"
            raise _NoColour(f"{path}: has {what} colour bitmaps (CBDT); {WHERE_TO_GET_ONE}")
        _check_ranges(font.getTableData("cmap"))
        of_code: dict[int, str] = font.getBestCmap() or {}
        glyphs: dict[tuple[int, ...], str] = {(code,): name for code, name in of_code.items()}
        codes = {glyph: code for code, glyph in sorted(of_code.items(), reverse=True)}
        for components, ligature in _ligatures(font):
            if all(name in codes for name in components):
                spelt = tuple(codes[n] for n in components if codes[n] != _SELECTOR)
                glyphs.setdefault(spelt, ligature)
        sizes = [strike.bitmapSizeTable.ppemY for strike in font["CBLC"].strikes]
        strikes = font["CBDT"].strikeData
        largest = max(range(len(strikes)), key=lambda i: sizes[i])
        return glyphs, dict(strikes[largest])


def _check_ranges(cmap: bytes) -> None:
    """Refuses ranges of code points, of which one wrong byte makes billions, before each of them
    gets its entry: formats 12 and 13 of the table `cmap`.

    Raises:
      ValueError: more code points than Unicode has.
    """
    (subtables,) = struct.unpack_from(">H", cmap, 2)
    for offset in {struct.unpack_from(">I", cmap, 8 + 8 * i)[0] for i in range(subtables)}:
        (format_,) = struct.unpack_from(">H", cmap, offset)
        if format_ not in (12, 13):
            continue
        (count,) = struct.unpack_from(">I", cmap, offset + 12)
        ranges = np.frombuffer(cmap, ">u4", 3 * count, offset + 16).reshape(count, 3)
        ends = ranges[:, 1].astype(np.int64) + 1
        if (ends - ranges[:, 0]).clip(0).sum() > sys.maxunicode + 1:
            raise ValueError("its cmap names more code points than there are")


def _ligatures(font: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """(glyphs, the glyph that stands for them) of a font's ligatures, in its order."""
    table = font["GSUB"].table if "GSUB" in font else None
    for lookup in table.LookupList.Lookup if table and table.LookupList else ():
        for subtable in lookup.SubTable if lookup.LookupType in _LIGATURES else ():
            subtable = getattr(subtable, "ExtSubTable", subtable)
            for first, ligatures in getattr(subtable, "ligatures", {}).items():
                for ligature in ligatures:
                    yield (first, *ligature.Component), ligature.LigGlyph
