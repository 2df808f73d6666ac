"""Pictures of images and of counts, drawn in whole pixels: `[H, W, 3] uint8`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from diffjax.evals.features import to_uint8

PAPER, INK, SOFT = (255, 255, 255), (33, 37, 41), (125, 132, 140)
MARGIN = 18


@functools.cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Matplotlib's own DejaVu Sans: on every machine, and it has Greek."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / f"DejaVuSans{'-Bold' if bold else ''}.ttf"), size)


def _width(text: str, font: ImageFont.FreeTypeFont) -> int:
    return int(np.ceil(font.getlength(text)))


def _fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """`text`, cut short with an ellipsis where it is wider than `width` pixels."""
    if _width(text, font) <= width:
        return text
    kept = next((n for n in range(len(text), 0, -1) if _width(text[:n] + "…", font) <= width), 0)
    return text[:kept] + "…"


def as_rgb(images: Any) -> np.ndarray:
    """`[..., H, W, C] float in [-1, 1]` as `[..., H, W, 3] uint8`; beyond three, C is cut.

    Raises:
      ValueError: pixels that are not finite.
    """
    x = to_uint8(images)
    return x[..., :3] if x.shape[-1] >= 3 else np.repeat(x[..., :1], 3, axis=-1)


def tile_side(side: int, target: int = 56) -> int:
    """Pixels of a tile: the least whole multiple of `side` of at least `target`."""
    return side * max(1, -(-target // side))


def _paste_tiles(canvas: Image.Image, tiles: np.ndarray, x: Any, y: Any, size: Any) -> None:
    for r, row in enumerate(as_rgb(tiles)):
        for c, tile in enumerate(row):
            # Nearest neighbour: the pixels that the model drew, not a smooth guess between them.
            image = Image.fromarray(tile).resize(size, Image.Resampling.NEAREST)
            canvas.paste(image, (x[c], y[r]))


def tile_grid(
    tiles: Any,
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    title: str = "",
    note: str = "",
    gap: int = 3,
    every: int = 0,
) -> np.ndarray:
    """A labelled table of images.

    Args:
      tiles: `[R, C, H, W, channels] float in [-1, 1]`.
      rows, columns: names beside each row and above each column; none where empty.
      title, note: a line above and a softer line below it.
      gap: pixels between tiles.
      every: a wider gap after each `every` columns; 0 for none.

    Raises:
      ValueError: pixels that are not finite.
    """
    tiles = np.asarray(tiles)
    count_r, count_c, h, w = tiles.shape[:4]
    scale = tile_side(max(h, w)) // max(h, w)
    size = (w * scale, h * scale)
    label, small, head = _font(14), _font(12), _font(17, bold=True)
    left = MARGIN + (max(_width(t, label) for t in rows) + 12 if rows else 0)
    top = MARGIN + (27 if title else 0) + (21 if note else 0) + (21 if columns else 0)
    extra = [(c // every) * 9 if every else 0 for c in range(count_c)]
    x = [left + c * (size[0] + gap) + extra[c] for c in range(count_c)]
    y = [top + r * (size[1] + gap) for r in range(count_r)]
    wide = max(x[-1] + size[0], MARGIN + _width(title, head), MARGIN + _width(note, small))
    canvas = Image.new("RGB", (wide + MARGIN, y[-1] + size[1] + MARGIN), PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((MARGIN, MARGIN - 4), title, fill=INK, font=head)
    pen.text((MARGIN, MARGIN - 4 + (27 if title else 0)), note, fill=SOFT, font=small)
    for text, at in zip(columns, x, strict=False):
        pen.text((at + size[0] / 2, top - 6), text, fill=SOFT, font=small, anchor="ms")
    for text, at in zip(rows, y, strict=False):
        pen.text((left - 12, at + size[1] / 2), text, fill=INK, font=label, anchor="rm")
    _paste_tiles(canvas, tiles, x, y, size)
    return np.asarray(canvas)


def _cell_colour(share: float, diagonal: bool) -> tuple[int, int, int]:
    """White to blue on the diagonal, white to red off it, where a little should be seen."""
    end = np.array((31, 98, 168) if diagonal else (190, 49, 46))
    depth = share if diagonal else share**0.5
    red, green, blue = np.rint(255 + (end - 255) * depth).astype(int).tolist()
    return red, green, blue


def count_matrix(
    counts: Any, names: Sequence[str], *, title: str = "", note: str = "", across: str, down: str
) -> np.ndarray:
    """A confusion matrix `counts [K, K]`, coloured by its share of the row, counts written in.

    `across` names the columns, `down` the rows. Over 20 classes the columns' names stand upright.
    """
    counts = np.asarray(counts)
    k = len(counts)
    side = 44 if k <= 20 else max(6, 880 // k)
    label, small, head = _font(14 if k <= 20 else max(6, side - 2)), _font(12), _font(17, bold=True)
    left = MARGIN + max(_width(n, label) for n in names) + 12 + 20
    upright = 0 if k <= 20 else max(_width(n, label) for n in names)
    top = MARGIN + (27 if title else 0) + (21 if note else 0) + (upright + 32 if upright else 44)
    wide = max(left + k * side, MARGIN + _width(title, head), MARGIN + _width(note, small))
    canvas = Image.new("RGB", (wide + MARGIN, top + k * side + MARGIN), PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((MARGIN, MARGIN - 4), title, fill=INK, font=head)
    pen.text((MARGIN, MARGIN - 4 + (27 if title else 0)), note, fill=SOFT, font=small)
    above = top - (upright + 14 if upright else 26)
    pen.text((left + k * side / 2, above), across, fill=SOFT, font=small, anchor="ms")
    turned = _turned(down, small, SOFT, 18)
    canvas.paste(turned, (MARGIN - 6, int(top + k * side / 2 - turned.height / 2)))
    for i in range(k):
        if upright:
            name = _turned(names[i], label, INK, side)
            canvas.paste(name, (left + i * side, top - 6 - name.height))
        else:
            short = _fitted(names[i], label, side - 4)
            pen.text((left + (i + 0.5) * side, top - 7), short, fill=INK, font=label, anchor="ms")
        pen.text((left - 10, top + (i + 0.5) * side), names[i], fill=INK, font=label, anchor="rm")
        for j in range(k):
            _draw_cell(pen, counts, i, j, (left + j * side, top + i * side), side)
    return np.asarray(canvas)


def _turned(text: str, font: Any, fill: tuple[int, int, int], height: int) -> Image.Image:
    """`text` written upwards, in a strip of `height` pixels across."""
    strip = Image.new("RGB", (_width(text, font) + 4, height), PAPER)
    ImageDraw.Draw(strip).text((2, height / 2), text, fill=fill, font=font, anchor="lm")
    return strip.rotate(90, expand=True)


def _draw_cell(pen: Any, counts: np.ndarray, i: int, j: int, at: Any, side: int) -> None:
    share = float(counts[i, j] / max(counts[i].sum(), 1))
    box = (at[0], at[1], at[0] + side - 2, at[1] + side - 2)
    empty = counts[i, j] == 0
    pen.rectangle(box, fill=(244, 246, 248) if empty else _cell_colour(share, i == j))
    if side >= 24 and not empty:
        dark = share > (0.5 if i == j else 0.25)
        middle = (at[0] + side / 2 - 1, at[1] + side / 2)
        pen.text(
            middle, str(counts[i, j]), fill=PAPER if dark else INK, font=_font(13), anchor="mm"
        )
