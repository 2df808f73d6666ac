"""A tiny colour font, so that most of what is said of emoji is tested where no font is found."""

import io
from pathlib import Path

import numpy as np
from fontTools.feaLib.builder import addOpenTypeFeaturesFromString
from fontTools.fontBuilder import FontBuilder
from fontTools.ttLib import newTable
from fontTools.ttLib.tables.BitmapGlyphMetrics import SmallGlyphMetrics
from fontTools.ttLib.tables.C_B_D_T_ import cbdt_bitmap_format_17
from fontTools.ttLib.tables.E_B_L_C_ import (
    BitmapSizeTable,
    SbitLineMetrics,
    Strike,
    eblc_index_sub_table_1,
)
from PIL import Image

WIDTH, HEIGHT = 136, 128
SELECTOR = "\ufe0f"


def colour(number: int) -> tuple[int, int, int]:
    """A colour of its own for each of 1,000 drawings."""
    return (number % 10) * 25, number // 10 % 10 * 25, number // 100 * 25


def drawing(number: int) -> bytes:
    """A PNG: drawing `number` is a block of its colour in the middle, transparent red around it."""
    pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    pixels[..., 0] = 255  # that nobody may see
    pixels[32:96, 34:102] = (*colour(number), 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def make_font(path: Path, drawings: dict[str, bytes], tables: tuple[str, ...] = ()) -> Path:
    """Writes a font that draws each sequence of code points as its PNG; several are ligatures.

    `tables` are names of empty tables that stand in place of the bitmaps.
    """
    codes = sorted({c for sequence in drawings for c in sequence if c != SELECTOR} | {"A"})
    glyph = {c: f"u{ord(c):X}" for c in codes}
    named = {
        s: glyph[s[0]] if len(s.replace(SELECTOR, "")) == 1 else f"lig{i}"
        for i, s in enumerate(drawings)
    }
    ligatures = {s: name for s, name in named.items() if name.startswith("lig")}
    builder = FontBuilder(1024, isTTF=True)
    builder.setupGlyphOrder([".notdef", *glyph.values(), *ligatures.values()])
    builder.setupCharacterMap({ord(c): name for c, name in glyph.items()})
    builder.setupHorizontalMetrics({name: (1024, 0) for name in builder.font.getGlyphOrder()})
    builder.setupHorizontalHeader()
    builder.setupPost()
    font = builder.font
    if ligatures:
        rules = "".join(
            f"sub {' '.join(glyph[c] for c in s if c != SELECTOR)} by {name};"
            for s, name in ligatures.items()
        )
        addOpenTypeFeaturesFromString(font, f"feature ccmp {{ {rules} }} ccmp;")
    for table in tables:
        font[table] = newTable(table)
        font[table].data = b""
        font[table].compile = lambda font: b""
    if not tables:
        _add_bitmaps(font, {named[s]: data for s, data in drawings.items()})
    font.save(path)
    return path


def _add_bitmaps(font, pictures: dict[str, bytes]) -> None:
    strike = Strike()
    size = strike.bitmapSizeTable = BitmapSizeTable()
    for direction in ("hori", "vert"):
        line = SbitLineMetrics()
        for field in (
            "ascender", "descender", "widthMax", "caretSlopeNumerator", "caretSlopeDenominator",
            "caretOffset", "minOriginSB", "minAdvanceSB", "maxBeforeBL", "minAfterBL", "pad1",
            "pad2",
        ):  # fmt: skip
            setattr(line, field, 0)
        setattr(size, direction, line)
    size.colorRef, size.ppemX, size.ppemY, size.bitDepth, size.flags = 0, 109, 109, 32, 1
    index = eblc_index_sub_table_1(b"", font)
    index.names = sorted(pictures, key=font.getGlyphID)
    index.indexFormat, index.imageFormat, index.imageDataOffset = 1, 17, 0
    strike.indexSubTables = [index]
    glyphs = {}
    for name, data in pictures.items():
        glyphs[name] = cbdt_bitmap_format_17(b"", font)
        metrics = glyphs[name].metrics = SmallGlyphMetrics()
        metrics.height, metrics.width = HEIGHT, WIDTH
        metrics.BearingX, metrics.BearingY, metrics.Advance = 0, 101, 136
        glyphs[name].imageData = data
    font["CBLC"], font["CBDT"] = newTable("CBLC"), newTable("CBDT")
    font["CBLC"].version, font["CBLC"].strikes = 3.0, [strike]
    font["CBDT"].version, font["CBDT"].strikeData = 3.0, [glyphs]
