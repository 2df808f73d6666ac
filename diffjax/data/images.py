"""Bytes to pixels: decode with Pillow to the right 8-bit picture, or refuse.

Of an animation, or a file of several pages, the first picture is read; embedded colour profiles are
not applied. Memory is a few times the decoded picture: modes are changed in strips.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from diffjax.data.image_formats import formats

# What `decode` raises on files that are no images, are cut off, or are bombs.
CORRUPT = (
    *(OSError, SyntaxError, ValueError, EOFError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)
STRIP = 2**20  # pixels whose mode is changed at a time
ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")


class NoPicture(ValueError):
    """A sound file whose numbers say no 8-bit picture; the message says why and what helps."""


@dataclass(frozen=True)
class Grey16:
    """The range of levels of 16-bit grey: `white` is the level of white (of black, if `inverted`),
    `clear` the level of transparent pixels or None."""

    white: int = 65535
    inverted: bool = False
    clear: int | None = None


def decode(data: bytes | BinaryIO, channels: int) -> np.ndarray:
    """Pixels `[H, W, channels] uint8` of an encoded image, turned upright by its EXIF tag.

    Raises:
      one of CORRUPT: where `data` cannot be decoded to the last pixel; `NoPicture` among them.
    """
    try:
        file = io.BytesIO(data) if isinstance(data, bytes) else data
        with Image.open(file, formats=formats()) as image:
            grey = grey_levels(image)
            _mend_transparency(image)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return to_pixels(image, channels, grey)
    except (MemoryError, *CORRUPT):
        raise
    # On bytes that are no image, a parser of Pillow's may stumble in any way.
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def reason(error: Exception) -> str:
    """One of CORRUPT as one short line."""
    line = (str(error).splitlines() or [""])[0]
    return line if isinstance(error, NoPicture) else f"{type(error).__name__}: {line[:100]}"


def grey_levels(image: Image.Image) -> Grey16 | None:
    """The range of the levels of an opened image of more than 8 bits; None where it has 8.

    Raises:
      NoPicture: floats, or integers of 32 bits: nothing says which number is white.
    """
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        kind = "floats" if image.mode == "F" else "signed or 32-bit integers"
        raise NoPicture(f"its pixels are {kind}, which say no white; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return None
    tags = getattr(image, "tag_v2", {})  # of a TIFF: bits per sample, and whether 0 is white
    bits, zero_is_white = tags.get(258, (16,)), tags.get(262) == 0
    clear = image.info.get("transparency")
    return Grey16(2 ** int(bits[0]) - 1, zero_is_white, clear if isinstance(clear, int) else None)


def _mend_transparency(image: Image.Image) -> None:
    """Brings the transparent colour of an opened PNG to the levels that its pixels get.

    Pillow spreads grey of 2 and 4 bits over 0 .. 255, but not the transparent level; of 16-bit
    colours it keeps the upper 8 bits, in which neighbours of the transparent one are equal to it.
    """
    clear = image.info.get("transparency")
    if image.format != "PNG" or clear is None or not getattr(image, "tile", None):
        return
    raw = image.tile[0].args  # type: ignore[attr-defined]
    raw = raw if isinstance(raw, str) else raw[0]
    if raw in ("L;2", "L;4"):
        image.info["transparency"] = clear * (85 if raw == "L;2" else 17)
    if raw == "RGB;16B":
        raise NoPicture("it has 16-bit colours of which one is transparent; save it with 8 bits")


def to_pixels(image: Image.Image, channels: int, grey: Grey16 | None = None) -> np.ndarray:
    """`[H, W, channels] uint8` of a loaded image, in grey (`channels` 1) or RGB (3).

    Transparent pixels are laid over white: dropping alpha would show whatever colour the editor
    left behind it. 16-bit grey is scaled as `grey` says, since Pillow's conversion clips it at 255.
    """
    if channels not in (1, 3):
        raise ValueError(f"images have 1 or 3 channels, not {channels}")
    width, height = image.size
    pixels = np.empty((height, width, channels), np.uint8)
    rows = max(1, STRIP // max(1, width))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = image if rows >= height else image.crop((0, top, width, bottom))
        pixels[top:bottom] = as_array(to_mode(strip, channels, grey))
    return pixels


def to_mode(image: Image.Image, channels: int, grey: Grey16 | None = None) -> Image.Image:
    """`image` as 8-bit grey (`channels` 1) or RGB (3): what `to_pixels` does to each strip.

    Raises:
      NoPicture: a mode without a conversion that is right.
    """
    mode = {1: "L", 3: "RGB"}[channels]
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image, grey or grey_levels(image) or Grey16())
    if image.mode == "LAB":
        raise NoPicture("its colours are CIELAB, which Pillow does not turn to RGB; save it as RGB")
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ALPHA or image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image.Image, grey: Grey16) -> Image.Image:
    """16-bit grey as 8-bit, transparent pixels white."""
    levels = np.asarray(image).clip(0, grey.white).astype(np.uint32)
    scaled = ((levels * 510 + grey.white) // (2 * grey.white)).astype(np.uint8)
    scaled = 255 - scaled if grey.inverted else scaled
    if grey.clear is not None:
        scaled[levels == grey.clear] = 255
    return Image.fromarray(scaled)


def as_array(image: Image.Image) -> np.ndarray:
    """`[H, W, C] uint8`, with C = 1 for grey."""
    pixels = np.asarray(image, np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def as_image(pixels: np.ndarray) -> Image.Image:
    """The Pillow image of `pixels [H, W, 1 or 3] uint8`."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def png(pixels: np.ndarray) -> bytes:
    """`pixels [H, W, 1 or 3] uint8` as a PNG file, lossless."""
    buffer = io.BytesIO()
    as_image(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
